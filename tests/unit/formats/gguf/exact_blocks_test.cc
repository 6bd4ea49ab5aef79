// Solved codes in blocks stand for the same numbers.
#include "formats/gguf/exact_blocks.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "lib/numeric/ggml_block.h"

namespace lathe {
namespace {

QuantizedTensor solved(const Scheme& scheme, int64_t rows, int64_t columns) {
  QuantizedTensor tensor;
  tensor.scheme = scheme;
  tensor.codes = at::randint(scheme.qmin(), scheme.qmax() + 1, {rows, columns}, at::kChar);
  tensor.scales = at::rand({rows, scheme.groups(columns)}).add(0.01).to(at::kHalf).to(at::kFloat);
  return tensor;
}

at::Tensor decoded(GgmlType type, const at::Tensor& blocks, int64_t columns) {
  at::Tensor values = at::empty({blocks.size(0), columns});
  decode_ggml(type, reinterpret_cast<const std::byte*>(blocks.data_ptr<uint8_t>()), values.numel(),
              values.data_ptr<float>());
  return values;
}

TEST(ExactBlocks, TheSameNumbersBitForBit) {
  at::manual_seed(3);
  for (const int bits : {4, 5, 8}) {
    for (const int64_t group : {32, 64, 96, -1}) {
      const Scheme scheme{.bits = bits, .group_size = group};
      const auto type = exact_type(scheme, 192);
      ASSERT_TRUE(type.has_value()) << scheme.describe();
      const QuantizedTensor tensor = solved(scheme, 7, 192);
      const auto blocks = exact_blocks(*type, tensor);
      ASSERT_TRUE(blocks.has_value()) << scheme.describe();
      EXPECT_TRUE(decoded(*type, *blocks, 192).equal(tensor.dequantize())) << scheme.describe();
    }
  }
}

TEST(ExactBlocks, OtherGridsHaveNone) {
  EXPECT_EQ(exact_type({.bits = 4, .group_size = 16}, 192), std::nullopt) << "half a block";
  EXPECT_EQ(exact_type({.bits = 4, .group_size = -1}, 40), std::nullopt) << "not whole blocks";
  EXPECT_EQ(exact_type({.bits = 3, .group_size = 32}, 192), std::nullopt);
  EXPECT_EQ(exact_type({.bits = 4, .group_size = 32, .symmetric = false}, 192), std::nullopt);
  EXPECT_EQ(exact_type(Scheme::as_they_are(), 192), std::nullopt);
  QuantizedTensor tensor = solved({.bits = 4, .group_size = 32}, 2, 64);
  tensor.scales = tensor.scales + 1e-5;
  EXPECT_FALSE(exact_blocks(GgmlType::Q4_0, tensor).has_value()) << "scales that F16 can't hold";
}

}  // namespace
}  // namespace lathe
