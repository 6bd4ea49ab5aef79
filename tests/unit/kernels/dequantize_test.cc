// The kernel that makes values out of codes against QuantizedTensor::dequantize(), bit for bit.
#include "lib/kernels/dequantize.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "lib/base/error.h"
#include "lib/numeric/hadamard.h"
#include "tests/unit/kernels/rounded.h"

namespace lathe::kernels {
namespace {

/// NaNs in the same places, every other number's bits equal.
bool same_values(const at::Tensor& found, const at::Tensor& expected) {
  const auto bits = [](const at::Tensor& x) {
    return x.contiguous().masked_fill(x.isnan(), 0).view(at::kInt);
  };
  return found.sizes() == expected.sizes() && found.isnan().equal(expected.isnan()) &&
         bits(found).equal(bits(expected));
}

void expect_reference(const QuantizedTensor& tensor) {
  const int64_t rows = tensor.rows();
  SCOPED_TRACE(fmt::format("{} on {}x{}", tensor.scheme.describe(), rows, tensor.cols()));
  EXPECT_TRUE(same_values(dequantize(tensor), tensor.dequantize()));
  for (const auto& [begin, end] : {std::pair{rows / 3, rows - 1}, std::pair{rows - 1, rows}})
    EXPECT_TRUE(same_values(dequantize_rows(tensor, begin, end), tensor.dequantize_rows(begin, end)));
}

TEST(Dequantize, IntegersAreTheReferences) {
  at::manual_seed(1);
  for (const int64_t width : {256, 192, 240, 43}) {
    for (const int64_t group : {16, 32, 48, 64, 128, -1}) {
      if (group != -1 && width % group != 0) continue;
      for (const int bits : {2, 4, 8}) {
        for (const bool symmetric : {true, false}) {
          QuantizedTensor tensor =
              test::round_to_nearest(at::randn({21, width}), {"int", bits, group, symmetric}, DType::F16);
          expect_reference(tensor);
          if (symmetric) continue;
          tensor.scheme.real_zero = true;
          tensor.zero_points = tensor.zero_points.to(at::kFloat) + at::rand(tensor.zero_points.sizes());
          expect_reference(tensor);
        }
      }
    }
  }
}

/// Every code of the format in every place of 64, and groups of every length that has a loop of its own.
TEST(Dequantize, EveryCodeOfEveryFormatIsTheReferences) {
  at::manual_seed(2);
  for (const FloatGridType& grid : float_grid_types()) {
    const int64_t codes = grid.number.codes();
    const at::Tensor places = at::arange(codes, at::kLong).unsqueeze(1) + at::arange(256, at::kLong);
    for (const int64_t length : {16, 32, 64, 128, 256}) {
      if (grid.group_size != 0 && grid.group_size != length) continue;
      Scheme scheme = Scheme::of_floats(grid.name);
      scheme.group_size = length;
      QuantizedTensor tensor{.scheme = scheme,
                             .codes = places.remainder(codes).to(at::kByte).view(at::kChar),
                             .scales = at::rand({codes, 256 / length}) + 0.01,
                             .zero_points = {}};
      if (scheme.has_global_scale()) tensor.global_scale = at::full({}, 0.0123f);
      expect_reference(tensor);
    }
  }
}

TEST(Dequantize, RowsThatShareScalesAreTheReferences) {
  at::manual_seed(3);
  const at::Tensor weight = at::randn({200, 384});
  for (const Scheme& scheme : {Scheme::of_floats("fp8_e4m3", 128, 128), Scheme::of_floats("fp8_e4m3", -1, -1),
                               Scheme::of_floats("fp8_e5m2", 3, 32)})
    expect_reference(test::round_to_nearest(weight, scheme, DType::F32));
  // A last block that the row's end cuts.
  expect_reference({.scheme = Scheme::of_floats("fp8_e4m3", 128, 128),
                    .codes = at::randint(-128, 127, {200, 200}).to(at::kChar),
                    .scales = at::rand({2, 2}),
                    .zero_points = {}});
}

TEST(Dequantize, OutliersOtherOrdersAndOtherAxesAreTheReferences) {
  at::manual_seed(4);
  const at::Tensor weight = at::randn({12, 96});
  QuantizedTensor tensor = test::round_to_nearest(weight, {"int", 4, 32, false}, DType::F16);
  tensor.outliers = outliers_of(weight.masked_fill(weight.abs() < 2, 0));
  ASSERT_GT(tensor.outliers->count(), 0);
  expect_reference(tensor);
  tensor.group_index = at::arange(96).remainder(3).to(at::kInt);
  expect_reference(tensor);
  const QuantizedTensor columns{.scheme = {.bits = 4, .group_size = 4, .axis = 0},
                                .codes = at::randint(-8, 8, {12, 96}).to(at::kChar),
                                .scales = at::rand({3, 96}) + 0.1,
                                .zero_points = {}};
  expect_reference(columns);
  QuantizedTensor kept{Scheme::as_they_are(), DType::F32, {}, {}, {}};
  kept.values = weight;
  expect_reference(kept);
  tensor.group_index.reset();
  const at::Tensor expected = tensor.dequantize();
  tensor.codes = tensor.codes.t().contiguous().t();  // as a reader may hold them
  EXPECT_TRUE(same_values(dequantize(tensor), expected));
}

TEST(Dequantize, IsTheSameForAnyNumberOfThreads) {
  at::manual_seed(5);
  const QuantizedTensor tensor =
      test::round_to_nearest(at::randn({509, 528}), Scheme::of_floats("nvfp4"), DType::F32);
  const int before = at::get_num_threads();
  at::set_num_threads(3);
  const at::Tensor values = dequantize(tensor);
  at::set_num_threads(before);
  EXPECT_TRUE(same_values(values, tensor.dequantize()));
}

TEST(Dequantize, BrokenPromisesAreInternalErrors) {
  QuantizedTensor tensor = test::round_to_nearest(at::randn({4, 64}), {"int", 4, 32, true}, DType::F16);
  EXPECT_THROW(dequantize_rows(tensor, 2, 5), InternalError);
  EXPECT_THROW(dequantize_rows(tensor, 3, 2), InternalError);
  tensor.scales = tensor.scales.slice(1, 0, 1);
  EXPECT_THROW(dequantize(tensor), InternalError);
}

TEST(DequantizedWeight, IsRotatedBack) {
  at::manual_seed(9);
  QuantizedTensor tensor{Scheme::as_they_are(), DType::F32, {}, {}, {}};
  const at::Tensor weight = at::randn({6, 64});
  tensor.values = hadamard_blocks(weight, 16);
  tensor.scheme.hadamard = 16;
  EXPECT_TRUE(dequantize(tensor).equal(tensor.values));
  EXPECT_TRUE(at::allclose(dequantized_weight(tensor), weight, 0, 1e-5));
  tensor.scheme.hadamard = 0;
  EXPECT_TRUE(dequantized_weight(tensor).equal(tensor.values));
}

}  // namespace
}  // namespace lathe::kernels
