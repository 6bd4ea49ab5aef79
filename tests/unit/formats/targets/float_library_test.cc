// Weights on floating-point grids, against what modelopt and compressed-tensors make of the same matrix.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

#include "lib/kernels/group_quant.h"
#include "tests/unit/formats/targets/artefact_fixture.h"
#include "tests/unit/kernels/rounded.h"

namespace lathe {
namespace {

using test::Rounded;
using test::rounded;
using test::tensor_of;

using namespace kernels;

const std::map<std::string, at::Tensor>& golden() {
  static const auto tensors =
      test::read_safetensors(test::fs::path(LATHE_SOURCE_DIR) / "tests/golden/floats/floats.safetensors");
  return tensors;
}

at::Tensor weight() { return golden().at("in.weight").to(at::kFloat); }

at::Tensor first_rows(const at::Tensor& codes, const at::Tensor& of) { return codes.slice(0, 0, of.size(0)); }

/// Byte [rows, in / 2], the even column in the low half.
at::Tensor nibbles(const at::Tensor& codes) {
  const at::Tensor bytes = codes.contiguous().view(at::kByte).view({codes.size(0), -1, 2});
  return bytes.select(2, 0).bitwise_or(bytes.select(2, 1).bitwise_left_shift(4));
}

TEST(FloatLibrary, Fp8IsModeloptsBitForBit) {
  const Scheme channel = Scheme::of_floats("fp8_e4m3"), tensor = Scheme::of_floats("fp8_e4m3", -1, -1);
  const Rounded rows = rounded(weight(), channel), whole = rounded(weight(), tensor);
  const at::Tensor& expected = golden().at("modelopt.fp8_pc_pt.weight");
  EXPECT_TRUE(rows.params.scales.view({-1}).equal(golden().at("modelopt.fp8_pc_pt.weight_scale")));
  EXPECT_TRUE(first_rows(rows.codes, expected).view(at::kByte).equal(expected.view(at::kByte)));
  const at::Tensor& single = golden().at("modelopt.fp8_per_tensor.weight");
  EXPECT_TRUE(one_row_each(whole.params.scales, tensor)
                  .reshape({})
                  .equal(golden().at("modelopt.fp8_per_tensor.weight_scale")));
  // modelopt divides in the weights' BF16 here, and so rounds twice; never nearer than one rounding of the
  // quotient.
  const at::Tensor part = first_rows(golden().at("in.weight"), single),
                   scale = golden().at("modelopt.fp8_per_tensor.weight_scale");
  EXPECT_TRUE((part / scale).to(at::kFloat8_e4m3fn).view(at::kByte).equal(single.view(at::kByte)));
  const at::Tensor exact = part.to(at::kFloat),
                   own = first_rows(tensor_of(whole, tensor).dequantize(), single);
  EXPECT_TRUE(((own - exact).abs() <= (single.to(at::kFloat) * scale - exact).abs()).all().item<bool>());
}

TEST(FloatLibrary, Nvfp4IsModeloptsBitForBitUnderItsGlobalScale) {
  const Scheme scheme = Scheme::of_floats("nvfp4");
  const at::Tensor& global = golden().at("modelopt.nvfp4.weight_scale_2");
  // Ours is rounded so that its reciprocal stands for it, too: one bit beside modelopt's at most.
  const at::Tensor own = global_scale(weight().abs().max());
  EXPECT_LE((own.view(at::kInt) - global.view(at::kInt)).abs().item<int>(), 1);
  for (const at::Tensor& used : {global, own}) {
    const GroupParams params = group_params(group_min_max(weight(), scheme), scheme, DType::F32, used);
    EXPECT_TRUE(params.scales.equal(golden().at("modelopt.nvfp4.weight_scale").to(at::kFloat)));
    const at::Tensor codes = group_encode(weight(), params, scheme);
    const at::Tensor& expected = golden().at("modelopt.nvfp4.weight");
    // The last bit of the global scale decides where a weight lies exactly between two numbers.
    const int64_t others = nibbles(first_rows(codes, expected)).ne(expected).sum().item<int64_t>();
    EXPECT_LE(others, used.is_same(global) ? 0 : 8);
  }
  const GroupParams params = group_params(group_min_max(weight(), scheme), scheme, DType::F32, global);
  const at::Tensor& values = golden().at("modelopt.nvfp4.dequant");
  const at::Tensor found = tensor_of({params, group_encode(weight(), params, scheme)}, scheme).dequantize();
  EXPECT_TRUE(first_rows(found, values).equal(values));
  EXPECT_TRUE(group_fake_quantize(weight(), params, scheme).equal(found));
}

TEST(FloatLibrary, MxScalesAreCompressedTensors) {
  for (const char* type : {"mxfp4", "mxfp8"}) {
    SCOPED_TRACE(type);
    const Scheme scheme = Scheme::of_floats(type);
    const Rounded part = rounded(weight(), scheme);
    const at::Tensor codes = golden().at(std::string("ct.") + type + ".weight_scale").to(at::kInt);
    const at::Tensor zero =
        weight().view({128, -1, 32}).eq(0).all(-1);  // there any scale is right: 2^-127 and ours, 1
    const at::Tensor expected = codes.sub(127).to(at::kFloat).exp2().masked_fill(zero, 1);
    EXPECT_TRUE(part.params.scales.equal(expected));
    const at::Tensor& values = golden().at(std::string("ct.") + type + ".dequant");
    EXPECT_TRUE(first_rows(tensor_of(part, scheme).dequantize(), values).equal(values));
  }
}

}  // namespace
}  // namespace lathe
