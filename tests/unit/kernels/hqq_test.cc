// The shared arithmetic of the half-quadratic kernels against the standard library and a plain loop; CUDA
// against CPU.
#include "lib/kernels/hqq.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include <cmath>

#include "lib/kernels/device/hqq.cuh"
#include "lib/kernels/group_quant.h"
#include "lib/tensor/device.h"

namespace lathe::kernels {
namespace {

TEST(HqqArithmetic, PowersAreRightToFiveDigits) {
  for (float a = 1e-6f; a < 1e6f; a *= 1.037f) {
    for (const float y : {-0.9f, -0.3f, -0.0f, 0.5f, 1.0f}) {
      const double expected = std::pow(static_cast<double>(a), static_cast<double>(y));
      ASSERT_NEAR(device::hqq_power(a, y) / expected, 1, 5e-6) << a << "^" << y;
    }
  }
}

TEST(HqqArithmetic, ShrinkageIsTheNormsProximalOperator) {
  for (const double p : {0.3, 0.7, 1.0}) {
    for (const double beta : {0.5, 10.0, 100.0}) {
      const double threshold = std::pow(beta, 1 / (p - 2));
      for (double d = -4 * threshold - 1; d <= 4 * threshold + 1; d += 0.0137) {
        const double kept = std::abs(d) - std::pow(std::abs(d), p - 1) / beta;
        const double expected = std::copysign(std::max(kept, 0.0), d);
        const float found = device::hqq_shrink(static_cast<float>(d), static_cast<float>(p - 1),
                                               static_cast<float>(1 / beta), static_cast<float>(threshold));
        ASSERT_NEAR(found, expected, 1e-5 * std::max(1.0, std::abs(d))) << p << " " << beta << " " << d;
      }
    }
  }
}

Scheme scheme_of(int bits, bool real) {
  return {.type = "int", .bits = bits, .group_size = -1, .symmetric = false, .real_zero = real};
}

HqqResult solve(const at::Tensor& groups, const Scheme& scheme, const HqqChoice& choice, DType dtype) {
  return hqq(groups, group_min_max(groups, scheme), scheme, dtype, choice);
}

bool same(const HqqResult& a, const HqqResult& b) {
  const auto bits = [](const at::Tensor& t) { return t.cpu().contiguous().view(at::kInt); };
  return at::equal(a.codes.cpu(), b.codes.cpu()) && at::equal(bits(a.scales), bits(b.scales)) &&
         at::equal(bits(a.zero_points), bits(b.zero_points));
}

/// Groups of every kind: wide ones, where shrinkage acts, constant, denormal, one-sided.
at::Tensor awkward(int64_t length) {
  at::manual_seed(11);
  return at::cat({at::randn({20, length}), at::randn({20, length}) * 30, at::randn({4, length}) * 1e-40,
                  at::rand({4, length}) + 3, at::zeros({1, length}), at::full({1, length}, -0.7)})
      .contiguous();
}

template <class Body>
void for_each_case(const Body& body) {
  for (const int64_t length : {1, 15, 16, 37, 64, 128}) {
    for (const int bits : {1, 3, 4, 8}) {
      for (const bool real : {true, false}) {
        for (const bool fitted : {true, false})
          body(awkward(length), scheme_of(bits, real),
               HqqChoice{.optimise_scale = fitted, .round_start = !fitted});
      }
    }
  }
}

TEST(HqqKernel, ThreadsChangeNothing) {
  const int threads = at::get_num_threads();
  const at::Tensor groups = at::cat(std::vector<at::Tensor>(40, awkward(64)));
  at::set_num_threads(1);
  const HqqResult one = solve(groups, scheme_of(4, true), {}, DType::F16);
  at::set_num_threads(4);
  EXPECT_TRUE(same(one, solve(groups, scheme_of(4, true), {}, DType::F16)));
  at::set_num_threads(threads);
}

TEST(HqqKernel, CodesAreTheNearestOfTheirGrid) {
  for_each_case([](const at::Tensor& groups, const Scheme& scheme, const HqqChoice& choice) {
    const HqqResult found = solve(groups, scheme, choice, DType::F16);
    const at::Tensor exact = (groups / found.scales + found.zero_points).clamp(scheme.qmin(), scheme.qmax());
    EXPECT_LE((found.codes - exact).abs().max().item<double>(), 0.5001)
        << scheme.describe() << " of " << groups.size(1);
    EXPECT_TRUE((found.scales > 0).all().item<bool>());
  });
}

TEST(HqqKernel, ZeroPointsStayAboveTheLowestCodeWhereTheyMust) {
  for (const bool fitted : {true, false}) {
    Scheme scheme = scheme_of(4, false);
    const HqqChoice choice{.optimise_scale = fitted};
    EXPECT_EQ(solve(awkward(64), scheme, choice, DType::F16).zero_points.min().item<float>(), scheme.qmin());
    scheme.zero_above_lowest = true;
    const HqqResult kept = solve(awkward(64), scheme, choice, DType::F16);
    EXPECT_EQ(kept.zero_points.min().item<float>(), scheme.qmin() + 1);
  }
}

TEST(HqqGpu, EqualsTheCpuBitForBit) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  for_each_case([&](const at::Tensor& groups, const Scheme& scheme, const HqqChoice& choice) {
    for (const DType dtype : {DType::F16, DType::BF16, DType::F32}) {
      EXPECT_TRUE(same(solve(groups, scheme, choice, dtype), solve(groups.to(device), scheme, choice, dtype)))
          << scheme.describe() << " of " << groups.size(1) << ", " << name_of(dtype);
    }
  });
}

}  // namespace
}  // namespace lathe::kernels
