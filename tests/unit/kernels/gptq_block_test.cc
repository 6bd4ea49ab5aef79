#include "lib/kernels/gptq_block.h"

#include <gtest/gtest.h>

#include "lib/kernels/group_grid.h"

namespace lathe {
namespace {

/// One row after the other, with the arithmetic that the CUDA kernel shares.
template <class T>
void round_row(T* w, const at::Tensor& factor, const float* scales, const int8_t* zeros,
               const int32_t* groups, int64_t columns, const Scheme& scheme, int8_t* codes, T* errors) {
  const auto u = factor.accessor<T, 2>();
  for (int64_t j = 0; j < columns; ++j) {
    const T zero = zeros == nullptr ? T(0) : static_cast<T>(zeros[groups[j]]);
    const auto scale = static_cast<T>(scales[groups[j]]);
    const FloatGridType* const floats = scheme.float_grid();
    const auto rounded =
        floats != nullptr ? device::round_weight(w[j], scale, u[j][j], kernels::minifloat_of(floats->number))
                          : device::round_weight(w[j], scale, zero, u[j][j], static_cast<T>(scheme.qmin()),
                                                 static_cast<T>(scheme.qmax()));
    codes[j] = static_cast<int8_t>(static_cast<int32_t>(rounded.code));
    errors[j] = rounded.error;
    for (int64_t k = j + 1; k < columns; ++k) w[k] = device::compensate(w[k], rounded.error, u[j][k]);
  }
}

template <class T>
void check(at::ScalarType type, int64_t rows, int64_t columns, const Scheme& scheme) {
  const int64_t groups = 3;
  // Parts of larger matrices, as the solver gives them.
  const at::Tensor weight = at::randn({rows, columns + 5}).to(type).slice(1, 2, 2 + columns);
  const at::Tensor factor =
      (at::randn({columns + 3, columns + 3}).to(type) * 0.1).slice(0, 1, 1 + columns).slice(1, 3);
  factor.diagonal().abs_().add_(0.5);
  const at::Tensor global = scheme.has_global_scale() ? at::full({}, 0.01f) : at::Tensor();
  const kernels::GroupParams stored = kernels::group_params(
      {at::full({rows, groups}, -2.f), at::rand({rows, groups}) * 2 + 1}, scheme, DType::F16, global);
  const kernels::GroupParams params{kernels::steps_of(stored), stored.zero_points};
  const at::Tensor column_group = at::randint(groups, {columns}).to(at::kInt);
  at::Tensor all_codes = at::full({rows, columns + 4}, 99, at::kChar),
             all_errors = at::zeros({rows, 130}).to(type);
  const at::Tensor codes = all_codes.slice(1, 4), errors = all_errors.slice(1, 1, 1 + columns);
  const at::Tensor before = weight.clone();
  kernels::gptq_block(weight, factor, params, column_group, scheme, codes, errors);
  EXPECT_TRUE(at::equal(weight, before));
  EXPECT_TRUE(all_codes.slice(1, 0, 4).eq(99).all().item<bool>());
  for (int64_t row = 0; row < rows; ++row) {
    at::Tensor w = before[row].clone(), expected_codes = at::empty({columns}, at::kChar),
               expected = at::empty_like(w);
    const at::Tensor zeros = scheme.symmetric ? at::Tensor() : params.zero_points[row];
    round_row<T>(w.data_ptr<T>(), factor, params.scales[row].template const_data_ptr<float>(),
                 zeros.defined() ? zeros.const_data_ptr<int8_t>() : nullptr,
                 column_group.const_data_ptr<int32_t>(), columns, scheme, expected_codes.data_ptr<int8_t>(),
                 expected.data_ptr<T>());
    EXPECT_TRUE(at::equal(codes[row], expected_codes)) << "row " << row << " of " << rows;
    EXPECT_TRUE(at::equal(errors[row], expected)) << "row " << row << " of " << rows;
  }
}

TEST(GptqBlock, EqualsOneRowAfterTheOtherBitForBit) {
  at::manual_seed(1);
  for (const Scheme& scheme :
       {Scheme{"int", 4, 32, true}, Scheme{"int", 3, 32, false}, Scheme{"int", 8, 32, false},
        Scheme::of_floats("nvfp4"), Scheme::of_floats("mxfp4"), Scheme::of_floats("mxfp6_e2m3"),
        Scheme::of_floats("mxint8"), Scheme::of_floats("fp8_e4m3"), Scheme::of_floats("fp8_e5m2")}) {
    for (const int64_t rows : {1, 15, 16, 37}) {
      for (const int64_t columns : {1, 33, 128}) {
        check<float>(at::kFloat, rows, columns, scheme);
        check<double>(at::kDouble, rows, columns, scheme);
      }
    }
  }
}

TEST(GptqBlock, RoundsToTheNearestPointOfTheGridTiesToEven) {
  const auto code = [](double w) { return device::round_weight<double>(w, 0.5, -2, 1, -8, 7).code; };
  EXPECT_EQ(code(0.25), -2);
  EXPECT_EQ(code(0.75), 0);
  EXPECT_EQ(code(100), 7);
  EXPECT_EQ(code(-100), -8);
  EXPECT_EQ(code(std::nan("")), -8);
  EXPECT_EQ(device::round_weight<float>(0.8f, 0.5f, 0, 0.25f, -8, 7).error, (0.8f - 1.0f) / 0.25f);
  for (const double x : {0.5, 1.5, -2.5, 1e6 + 0.5, -0.49999999999999994, 2147483647.5}) {
    EXPECT_EQ(device::round_half_even(x), std::nearbyint(x)) << x;
  }
}

}  // namespace
}  // namespace lathe
