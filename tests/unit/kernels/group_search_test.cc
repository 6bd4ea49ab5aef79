#include "lib/kernels/group_search.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lib/kernels/device/group_search.cuh"

namespace lathe {
namespace {

/// The same search by whole-matrix passes, its errors in FP64.
GroupRange slow_search(const at::Tensor& weight, const at::Tensor& importance, const Scheme& scheme,
                       int64_t steps, double max_shrink) {
  const int64_t groups = scheme.groups(weight.size(1));
  const GroupRange full = kernels::group_min_max(weight, scheme);
  at::Tensor best = at::full(full.lo.sizes(), INFINITY, at::kDouble), factors = at::ones_like(full.lo);
  for (int64_t step = 0; step <= steps; ++step) {
    const float factor = static_cast<float>(1 - max_shrink * double(step) / double(steps));
    const auto params = kernels::group_params({full.lo * factor, full.hi * factor}, scheme, DType::F16);
    const at::Tensor delta = (kernels::group_fake_quantize(weight, params, scheme) - weight).to(at::kDouble);
    const at::Tensor error = (delta.square() * importance).view({weight.size(0), groups, -1}).sum(2);
    const at::Tensor better = error < best * (1 - 1e-6);
    best = at::where(better, error, best);
    factors.masked_fill_(better, factor);
  }
  return {full.lo * factors, full.hi * factors};
}

TEST(GroupSearch, TakesTheBestOfTheFactors) {
  at::manual_seed(1);
  for (const Scheme& scheme : {Scheme{"int", 4, 32, true}, Scheme{"int", 3, 48, false},
                               Scheme{"int", 2, -1, true}, Scheme{"int", 4, 6, false}}) {
    const at::Tensor weight = at::randn({13, 96}), importance = at::rand({96}) * 3;
    for (const bool weighted : {true, false}) {
      const GroupRange found =
          kernels::search_range(weight, weighted ? importance : at::Tensor(), scheme, DType::F16, 20, 0.6);
      const GroupRange expected =
          slow_search(weight, weighted ? importance : at::ones({96}), scheme, 20, 0.6);
      EXPECT_TRUE(at::equal(found.lo, expected.lo)) << scheme.describe() << weighted;
      EXPECT_TRUE(at::equal(found.hi, expected.hi)) << scheme.describe() << weighted;
    }
  }
}

TEST(GroupSearch, GroupsWithoutImportanceKeepTheirExtent) {
  at::manual_seed(2);
  const Scheme scheme{"int", 4, 32, false};
  const at::Tensor weight = at::randn({4, 64});
  const GroupRange found = kernels::search_range(weight, at::zeros({64}), scheme, DType::F16, 40, 0.8);
  const GroupRange full = kernels::group_min_max(weight, scheme);
  EXPECT_TRUE(at::equal(found.lo, full.lo) && at::equal(found.hi, full.hi));
}

// The CUDA kernel adds a lane's values as the CPU's does, and the lanes by halves: here its order, on the
// host.
TEST(GroupSearch, SumsInTheOrderOfAWarp) {
  at::manual_seed(3);
  const at::Tensor weight = at::randn({1, 77});
  const Scheme scheme{"int", 4, 77, true};
  const GroupRange found = kernels::search_range(weight, {}, scheme, DType::F16, 40, 0.8);
  const float* const w = weight.const_data_ptr<float>();
  const GroupRange full = kernels::group_min_max(weight, scheme);
  const float lo = full.lo.item<float>(), hi = full.hi.item<float>();
  const device::Grid grid{-8, 7, true, device::ScaleType::f16};
  float best = 0, best_factor = 1;
  for (int64_t step = 0; step <= 40; ++step) {
    const float factor = device::shrink_factor(step, 40, 0.8);
    const device::ScaleZero group = device::choose_scale_zero(lo * factor, hi * factor, grid);
    float lanes[32] = {};
    for (int i = 0; i < 77; ++i) lanes[i % 32] += device::weighted_error(w[i], 1, group, -8, 7);
    for (int half = 16; half > 0; half /= 2) {
      for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    }
    if (step > 0 && !(lanes[0] < best)) continue;
    best = lanes[0];
    best_factor = factor;
  }
  EXPECT_EQ(found.lo.item<float>(), lo * best_factor);
}

}  // namespace
}  // namespace lathe
