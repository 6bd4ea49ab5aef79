#include "lib/kernels/group_search.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lib/kernels/device/group_search.cuh"
#include "lib/kernels/group_search_reference.h"

namespace lathe {
namespace {

TEST(GroupSearch, TakesTheBestOfTheFactors) {
  at::manual_seed(1);
  for (const Scheme& scheme : {Scheme{"int", 4, 32, true}, Scheme{"int", 3, 48, false},
                               Scheme{"int", 2, -1, true}, Scheme{"int", 4, 6, false}}) {
    const at::Tensor weight = at::randn({13, 96}), importance = at::rand({96}) * 3;
    for (const bool weighted : {true, false}) {
      const GroupRange found =
          kernels::search_range(weight, weighted ? importance : at::Tensor(), scheme, DType::F16, 20, 0.6);
      const GroupRange expected = kernels::search_range_reference(
          weight, weighted ? importance : at::Tensor(), scheme, DType::F16, {20, 0.6});
      EXPECT_TRUE(at::equal(found.lo, expected.lo)) << scheme.describe() << weighted;
      EXPECT_TRUE(at::equal(found.hi, expected.hi)) << scheme.describe() << weighted;
    }
  }
}

// The full range puts the largest weight 7.5 steps from 0, and on the upper side there are 7.
TEST(GroupSearch, ASymmetricGridGetsAStepForItsLargestWeight) {
  const at::Tensor weight = at::tensor({7.0f, -2.0f, 3.0f, 5.0f, -6.0f, 1.0f, 4.0f, 0.0f}).view({1, 8});
  const Scheme scheme{"int", 4, 8, true};
  const GroupRange found = kernels::search_range(weight, {}, scheme, DType::F16, 20, 0.5);
  const auto params = kernels::group_params(found, scheme, DType::F16);
  EXPECT_TRUE(at::equal(kernels::group_fake_quantize(weight, params, scheme), weight));
  const auto full = kernels::group_params(kernels::group_min_max(weight, scheme), scheme, DType::F16);
  EXPECT_FALSE(at::allclose(kernels::group_fake_quantize(weight, full, scheme), weight, 0, 0.1));
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
  float best = INFINITY, best_factor = 1;
  for (const float factor : kernels::range_factors(scheme, {40, 0.8})) {
    const device::ScaleZero group = device::choose_scale_zero(lo * factor, hi * factor, grid);
    float lanes[32] = {};
    for (int i = 0; i < 77; ++i) lanes[i % 32] += device::weighted_error(w[i], 1, group, -8, 7);
    for (int half = 16; half > 0; half /= 2) {
      for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    }
    if (!(lanes[0] < best)) continue;
    best = lanes[0];
    best_factor = factor;
  }
  EXPECT_EQ(found.lo.item<float>(), lo * best_factor);
}

}  // namespace
}  // namespace lathe
