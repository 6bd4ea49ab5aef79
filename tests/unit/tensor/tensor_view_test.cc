#include "lib/tensor/tensor_view.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>

#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

TEST(TensorInfo, CountsAndDescribes) {
  const TensorInfo matrix{DType::F16, {576, 1536}};
  EXPECT_EQ(matrix.numel(), 576 * 1536);
  EXPECT_EQ(matrix.nbytes(), 2u * 576 * 1536);
  EXPECT_EQ(matrix.describe(), "F16 [576, 1536]");
  EXPECT_EQ(describe_shape({7}), "[7]");

  const TensorInfo scalar{DType::F64, {}};
  EXPECT_EQ(scalar.numel(), 1);
  EXPECT_EQ(scalar.nbytes(), 8u);
  EXPECT_EQ(scalar.describe(), "F64 []");

  const TensorInfo empty{DType::I32, {4, 0}};
  EXPECT_EQ(empty.numel(), 0);
  EXPECT_EQ(empty.nbytes(), 0u);

  const TensorInfo huge{DType::F32, {int64_t{1} << 20, int64_t{1} << 20}};
  EXPECT_EQ(huge.nbytes(), uint64_t{1} << 42) << "past 32 bits";
}

/// Four floats at this distance from an aligned address.
struct Floats {
  alignas(16) std::byte storage[32];
  TensorView view;
  explicit Floats(size_t shift) {
    const float values[4] = {1.5F, -2.0F, 3.25F, 4.0F};
    std::memcpy(storage + shift, values, sizeof(values));
    view = {{DType::F32, {2, 2}}, std::span<const std::byte>(storage + shift, sizeof(values))};
  }
};

TEST(Borrow, SharesAlignedBytes) {
  const Floats floats(4);
  const at::Tensor tensor = borrow(floats.view);
  EXPECT_EQ(tensor.data_ptr(), static_cast<const void*>(floats.view.bytes.data()));
  EXPECT_EQ(tensor.sizes(), at::IntArrayRef({2, 2}));
  EXPECT_EQ(tensor[1][0].item<float>(), 3.25F);
}

TEST(Borrow, CopiesUnalignedBytes) {
  for (const size_t shift : {1, 2, 3, 5}) {
    const Floats floats(shift);
    const at::Tensor tensor = borrow(floats.view);
    EXPECT_NE(tensor.data_ptr(), static_cast<const void*>(floats.view.bytes.data()));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data_ptr()) % 4, 0u);
    EXPECT_EQ(tensor[0][1].item<float>(), -2.0F) << shift;
    EXPECT_EQ(tensor[1][1].item<float>(), 4.0F) << shift;
  }
}

TEST(Borrow, AlignmentIsThatOfTheDtype) {
  const Floats floats(1);
  const TensorView bytes{{DType::U8, {16}}, floats.view.bytes};
  EXPECT_EQ(borrow(bytes).data_ptr(), static_cast<const void*>(bytes.bytes.data()))
      << "bytes are always aligned";
}

TEST(Borrow, EmptyAndScalar) {
  const TensorView empty{{DType::F32, {0, 3}}, {}};
  EXPECT_EQ(borrow(empty).sizes(), at::IntArrayRef({0, 3}));
  const Floats floats(0);
  const TensorView scalar{{DType::F32, {}}, floats.view.bytes.first(4)};
  EXPECT_EQ(borrow(scalar).dim(), 0);
  EXPECT_EQ(borrow(scalar).item<float>(), 1.5F);
}

TEST(Aten, InfoAndBytesOfATensor) {
  const at::Tensor tensor = at::arange(6, at::kInt).reshape({2, 3});
  EXPECT_EQ(info_of(tensor), (TensorInfo{DType::I32, {2, 3}}));
  ASSERT_EQ(bytes_of(tensor).size(), 24u);
  int32_t last = 0;
  std::memcpy(&last, bytes_of(tensor).data() + 20, 4);
  EXPECT_EQ(last, 5);
  EXPECT_THROW(bytes_of(tensor.t()), InternalError) << "not contiguous: the bytes would be in another order";
}

}  // namespace
}  // namespace lathe
