// The fused kernels against plain FP64 arithmetic, value by value.
#include "lib/kernels/transformer_ops.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/base/error.h"
#include "lib/kernels/device/transformer.cuh"

namespace lathe::kernels {
namespace {

constexpr double kUlp = 1.0 / (1 << 23);  // of numbers in [1, 2)

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && at::equal(a.contiguous().view(at::kInt), b.contiguous().view(at::kInt));
}

/// max |a - b| / max |b|
double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a.to(at::kDouble) - b).abs().max() / b.abs().max()).item<double>();
}

/// The result must not depend on the number of threads; leaves it as it was.
template <class Call>
void expect_same_on_any_threads(const Call& call) {
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = call();
  at::set_num_threads(5);
  const at::Tensor five = call();
  at::set_num_threads(before);
  EXPECT_TRUE(same_bits(one, five));
}

at::Tensor rms_norm_reference(const at::Tensor& x, const at::Tensor& weight, double eps, double offset) {
  const at::Tensor wide = x.to(at::kDouble);
  return wide / (wide.square().mean(-1, true) + eps).sqrt() * (weight.to(at::kDouble) + offset);
}

at::Tensor rotate_reference(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines) {
  at::Tensor out = x.to(at::kDouble).contiguous().clone();
  const auto in = x.to(at::kDouble).contiguous();
  const auto c = cosines.accessor<float, 2>(), s = sines.accessor<float, 2>();
  const auto from = in.accessor<double, 4>();
  auto to = out.accessor<double, 4>();
  const int64_t rotary = cosines.size(1), half = rotary / 2;
  for (int64_t b = 0; b < x.size(0); ++b) {
    for (int64_t p = 0; p < x.size(1); ++p) {
      for (int64_t h = 0; h < x.size(2); ++h) {
        for (int64_t i = 0; i < rotary; ++i) {
          const double other = i < half ? -from[b][p][h][i + half] : from[b][p][h][i - half];
          to[b][p][h][i] = from[b][p][h][i] * c[p][i] + other * s[p][i];
        }
      }
    }
  }
  return out;
}

double activate_reference(Activation activation, double x) {
  switch (activation) {
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::gelu_tanh:
      return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));  // tanh, uncancelled
    case Activation::quick_gelu:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::relu2:
      return x > 0 ? x * x : 0;
  }
  return NAN;
}

constexpr Activation kAll[] = {Activation::silu,       Activation::gelu, Activation::gelu_tanh,
                               Activation::quick_gelu, Activation::relu, Activation::relu2};

TEST(ExpValue, IsWithinTwoUlp) {
  double worst = 0;
  for (double x = -87.2; x < 88.2; x += 0.000731) {
    const float argument = static_cast<float>(x);
    const double exact = std::exp(static_cast<double>(argument));
    worst = std::max(worst, std::abs(device::exp_value(argument) - exact) / exact);
  }
  EXPECT_LT(worst, 2 * kUlp);
  EXPECT_EQ(device::exp_value(0.0f), 1.0f);
  EXPECT_GT(device::exp_value(-1e30f), 0.0f);
  EXPECT_LT(device::exp_value(-1e30f), 1.3e-38f);
  EXPECT_EQ(device::exp_value(1e30f), std::numeric_limits<float>::infinity());
}

TEST(RmsNorm, EqualsFp64) {
  at::manual_seed(1);
  for (const int64_t width : {1, 3, 63, 64, 65, 172, 576, 4096}) {
    for (const bool unit_offset : {false, true}) {
      const at::Tensor x = at::randn({3, 5, width}) * 7, weight = at::randn({width});
      const at::Tensor y = rms_norm(x, weight, 1e-5, unit_offset);
      EXPECT_LT(relative_difference(y, rms_norm_reference(x, weight, 1e-5, unit_offset)), 8 * kUlp) << width;
      EXPECT_TRUE(y.is_contiguous());
    }
  }
}

TEST(RmsNorm, HasItsEpsUnderTheRootAndKeepsNaNInItsRow) {
  at::Tensor x = at::zeros({3, 64});
  x[1].fill_(1e-3);
  x[2][5] = NAN;
  const at::Tensor y = rms_norm(x, at::ones({64}), 1e-6);
  EXPECT_EQ(y[0].abs().max().item<float>(), 0.0f);
  EXPECT_NEAR(y[1][0].item<float>(), 1e-3 / std::sqrt(1e-6 + 1e-6), 1e-6);
  EXPECT_TRUE(at::isnan(y[2]).all().item<bool>() && at::isfinite(y[1]).all().item<bool>());
}

TEST(RmsNorm, RowsNeitherKnowTheirNeighboursNorTheirStride) {
  at::manual_seed(2);
  const at::Tensor wide = at::randn({300, 2 * 172}), weight = at::randn({172});
  const at::Tensor x = wide.slice(1, 172);  // rows at a stride of 344
  const at::Tensor y = rms_norm(x, weight, 1e-6);
  EXPECT_TRUE(same_bits(y, rms_norm(x.contiguous(), weight, 1e-6)));
  EXPECT_TRUE(same_bits(y[17], rms_norm(x[17], weight, 1e-6)));
  EXPECT_TRUE(same_bits(y.t(), rms_norm(x.contiguous().t().contiguous().t(), weight, 1e-6).t()));
  expect_same_on_any_threads([&] { return rms_norm(x, weight, 1e-6); });
}

TEST(RmsNorm, HalfInputsAreNormedInFp32) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({4, 96}).to(at::kBFloat16), weight = at::randn({96});
  const at::Tensor y = rms_norm(x, weight, 1e-6, true);
  EXPECT_EQ(y.scalar_type(), at::kFloat);
  EXPECT_LT(relative_difference(y, rms_norm_reference(x, weight, 1e-6, 1.0)), 8 * kUlp);
  EXPECT_TRUE(at::equal(rms_norm(x, weight, 1e-6, true, at::kBFloat16), y.to(at::kBFloat16)));
}

TEST(RotateHeads, EqualsFp64WhollyAndPartially) {
  at::manual_seed(4);
  for (const auto& [head_dim, rotary] : {std::pair{64, 64}, {10, 10}, {96, 72}, {8, 2}, {80, 32}}) {
    const at::Tensor cosines = at::randn({7, rotary}), sines = at::randn({7, rotary});
    const at::Tensor x = at::randn({2, 7, 3, head_dim});
    const at::Tensor expected = rotate_reference(x, cosines, sines);
    const at::Tensor turned = x.clone();
    rotate_heads_(turned, cosines, sines);
    EXPECT_LT(relative_difference(turned, expected), 4 * kUlp) << head_dim << " " << rotary;
    EXPECT_TRUE(same_bits(turned.slice(3, rotary), x.slice(3, rotary)));
    expect_same_on_any_threads([&] {
      const at::Tensor again = x.clone();
      rotate_heads_(again, cosines, sines);
      return again;
    });
  }
}

TEST(RotateHeads, TurnsASliceOfAFusedProjectionInPlace) {
  at::manual_seed(5);
  const at::Tensor fused = at::randn({2, 6, 8 * 16}), before = fused.clone();
  const at::Tensor cosines = at::randn({6, 16}), sines = at::randn({6, 16});
  const at::Tensor keys = fused.slice(2, 4 * 16, 6 * 16).view({2, 6, 2, 16});
  const at::Tensor expected = rotate_reference(keys, cosines, sines);
  rotate_heads_(keys, cosines, sines);
  EXPECT_LT(relative_difference(keys, expected), 4 * kUlp);
  EXPECT_TRUE(same_bits(fused.slice(2, 0, 4 * 16), before.slice(2, 0, 4 * 16)));
  EXPECT_TRUE(same_bits(fused.slice(2, 6 * 16), before.slice(2, 6 * 16)));
}

TEST(RotateHeads, HalfHeadsAreTurnedInFp32AndRoundedOnce) {
  at::manual_seed(6);
  const at::Tensor x = at::randn({1, 5, 2, 16}).to(at::kBFloat16), turned = x.clone();
  const at::Tensor cosines = at::randn({5, 12}), sines = at::randn({5, 12});
  rotate_heads_(turned, cosines, sines);
  EXPECT_EQ(turned.scalar_type(), at::kBFloat16);
  EXPECT_LT(relative_difference(turned, rotate_reference(x, cosines, sines)), 1.0 / 256);
}

TEST(RotateHeads, RefusesTablesThatDoNotFit) {
  const at::Tensor x = at::zeros({1, 5, 2, 16});
  EXPECT_THROW(rotate_heads_(x, at::zeros({4, 16}), at::zeros({4, 16})), InternalError);
  EXPECT_THROW(rotate_heads_(x, at::zeros({5, 18}), at::zeros({5, 18})), InternalError);
  EXPECT_THROW(rotate_heads_(x, at::zeros({5, 15}), at::zeros({5, 15})), InternalError);
  EXPECT_THROW(rotate_heads_(x, at::zeros({5, 16}), at::zeros({5, 14})), InternalError);
  EXPECT_THROW(rotate_heads_(x.transpose(1, 2), at::zeros({2, 16}), at::zeros({2, 16})), InternalError);
}

TEST(GatedProduct, EqualsFp64ForEveryActivation) {
  const at::Tensor gate = at::linspace(-100, 100, 20009).view({11, -1});
  at::manual_seed(7);
  const at::Tensor up = at::randn(gate.sizes());
  for (const Activation activation : kAll) {
    const at::Tensor result = gated_product(activation, gate.clone(), up);
    for (int64_t row = 0; row < gate.size(0); ++row) {
      for (int64_t i = 0; i < gate.size(1); ++i) {
        const double x = gate[row][i].item<float>(), factor = up[row][i].item<float>();
        const double exact = activate_reference(activation, x) * factor;
        // ATen's erf cancels where x < 0; the rest is good to a few ulp of the result.
        const double allowed =
            activation == Activation::gelu ? 2e-7 * std::abs(x * factor) : 64 * kUlp * std::abs(exact);
        ASSERT_LE(std::abs(result[row][i].item<float>() - exact), allowed + 1e-35)
            << static_cast<int>(activation) << " at " << x;
        i += 12;
      }
    }
  }
}

TEST(GatedProduct, WritesOverADenseGateAndLeavesAFusedOneAlone) {
  at::manual_seed(8);
  const at::Tensor fused = at::randn({5, 6, 2 * 48}), before = fused.clone();
  const at::Tensor gate = fused.slice(2, 0, 48), up = fused.slice(2, 48);
  const at::Tensor dense_gate = gate.contiguous();
  for (const Activation activation : kAll) {
    const at::Tensor result = gated_product(activation, gate, up);
    EXPECT_TRUE(result.is_contiguous() && same_bits(fused, before));
    if (activation == Activation::gelu)
      continue;  // ATen's, whose last values take another path than the rest
    EXPECT_TRUE(same_bits(result, gated_product(activation, dense_gate.clone(), up.contiguous())))
        << static_cast<int>(activation);
  }
  const at::Tensor in_place = gated_product(Activation::silu, dense_gate, up.contiguous());
  EXPECT_EQ(in_place.data_ptr(), dense_gate.data_ptr());
}

TEST(GatedProduct, DoesNotDependOnThreadsOrOnTheVectorAValueFallsInto) {
  at::manual_seed(9);
  const at::Tensor gate = at::randn({700, 37}) * 5, up = at::randn({700, 37});
  for (const Activation activation : {Activation::silu, Activation::gelu_tanh, Activation::relu2}) {
    const at::Tensor whole = gated_product(activation, gate.clone(), up);
    expect_same_on_any_threads([&] { return gated_product(activation, gate.clone(), up); });
    for (int64_t start = 0; start < 37; ++start) {
      const at::Tensor part =
          gated_product(activation, gate.slice(1, start).clone(at::MemoryFormat::Contiguous),
                        up.slice(1, start).contiguous());
      ASSERT_TRUE(same_bits(part, whole.slice(1, start)))
          << static_cast<int>(activation) << " from " << start << ", difference "
          << (part - whole.slice(1, start)).abs().max().item<float>();
    }
  }
}

TEST(GatedProduct, KeepsNaNsAndTakesInfinities) {
  const float inf = std::numeric_limits<float>::infinity();
  const at::Tensor gate = at::tensor({NAN, inf, 1e30f, -1e30f, 0.0f}), up = at::full({5}, 2.0f);
  for (const Activation activation : kAll) {
    const at::Tensor y = gated_product(activation, gate.clone(), up);
    EXPECT_TRUE(std::isnan(y[0].item<float>())) << static_cast<int>(activation);
    if (activation != Activation::gelu) {  // ATen's gives a NaN
      EXPECT_EQ(y[1].item<float>(), inf) << static_cast<int>(activation);
    }
    EXPECT_EQ(y[3].item<float>(), 0.0f);
    EXPECT_EQ(y[4].item<float>(), 0.0f);
  }
}

TEST(GatedProduct, HalfValuesAreMultipliedInFp32AndRoundedOnce) {
  at::manual_seed(10);
  const at::Tensor gate = (at::randn({9, 50}) * 3).to(at::kBFloat16),
                   up = at::randn({9, 50}).to(at::kBFloat16);
  for (const Activation activation : kAll) {
    const at::Tensor wide = gated_product(activation, gate.to(at::kFloat), up.to(at::kFloat));
    EXPECT_TRUE(at::equal(gated_product(activation, gate.clone(), up), wide.to(at::kBFloat16)));
  }
}

TEST(TransformerOps, TakeNoRowsAndStridesThatSayNothing) {
  const at::Tensor none = at::zeros({0, 16});
  EXPECT_EQ(rms_norm(none, at::ones({16}), 1e-6).numel(), 0);
  EXPECT_EQ(gated_product(Activation::silu, none, none).numel(), 0);
  at::manual_seed(11);
  const at::Tensor fused = at::randn({3, 1, 2 * 16});
  const at::Tensor gate = fused.slice(2, 0, 16), up = fused.slice(2, 16);  // [3, 1, 16]
  const at::Tensor expected = gated_product(Activation::silu, gate.contiguous().clone(), up.contiguous());
  EXPECT_TRUE(same_bits(gated_product(Activation::silu, gate, up), expected));
  EXPECT_TRUE(same_bits(gated_product(Activation::silu, gate.slice(0, 0, 1), up.contiguous().slice(0, 0, 1)),
                        expected.slice(0, 0, 1)));
  EXPECT_TRUE(same_bits(rms_norm(gate, at::ones({16}), 1e-6), rms_norm(gate.clone(), at::ones({16}), 1e-6)));
  const at::Tensor heads = fused.slice(2, 0, 16).view({3, 1, 2, 8}), turned = heads.clone();
  rotate_heads_(turned, at::full({1, 8}, 0.6f), at::full({1, 8}, 0.8f));
  rotate_heads_(heads, at::full({1, 8}, 0.6f), at::full({1, 8}, 0.8f));
  EXPECT_TRUE(same_bits(heads.contiguous(), turned));
}

TEST(TransformerOps, RefuseOtherTypes) {
  const at::Tensor x = at::zeros({1, 2, 2, 16}, at::kDouble), tables = at::zeros({2, 16});
  EXPECT_THROW(rms_norm(x, at::ones({16}), 1e-6), InternalError);
  EXPECT_THROW(rotate_heads_(x, tables, tables), InternalError);
  EXPECT_THROW(gated_product(Activation::silu, x, x), InternalError);
  EXPECT_THROW(rms_norm(tables, at::ones({15}), 1e-6), InternalError);
}

TEST(GatedProduct, RefusesAnotherShape) {
  EXPECT_THROW(gated_product(Activation::silu, at::zeros({2, 3}), at::zeros({2, 4})), InternalError);
  EXPECT_THROW(gated_product(Activation::silu, at::zeros({2, 3}), at::zeros({2, 3}, at::kHalf)),
               InternalError);
}

}  // namespace
}  // namespace lathe::kernels
