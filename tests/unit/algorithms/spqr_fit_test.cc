#include "algorithms/spqr_fit.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "algorithms/spqr_reference.h"

namespace lathe {
namespace {

SecondLevel empty_level(int64_t rows, int64_t groups, const ScaleGrid& scheme) {
  const at::Tensor codes = at::zeros({rows, groups}, at::kByte);
  const at::Tensor statistics = at::zeros({rows / scheme.rows, groups});
  return {codes.clone(),      codes.clone(),      statistics.clone(),
          statistics.clone(), statistics.clone(), statistics.clone()};
}

TEST(SpqrFit, LeaveOneOutIsTheReferences) {
  at::manual_seed(1);
  for (const int64_t length : {1, 2, 16}) {
    at::Tensor group = at::randn({40, length}, at::kDouble);
    group[0].fill_(0);
    group[1].fill_(2);
    group[2].fill_(-3);
    group[3].abs_();
    group[4].abs_().neg_();
    group[5][0] = 30;
    if (length > 1) group[6][0] = 5, group[6][1] = 5, group[7][0] = -30;
    const at::Tensor pivots = at::rand({length}, at::kDouble) + 0.2;
    for (const int bits : {2, 3, 4}) {
      const at::Tensor found = spqr_leave_one_out(group, pivots.reciprocal(), bits);
      const at::Tensor expected = spqr_leave_one_out_reference(group, pivots, bits);
      EXPECT_TRUE(at::allclose(found, expected, 1e-10, 1e-10)) << length << ' ' << bits;
    }
  }
}

TEST(SpqrFit, SpansWhatIsNotLeftOut) {
  const at::Tensor group = at::tensor({-1.0f, 2.0f, 5.0f, 0.5f, 0.5f, 0.5f}).view({2, 3});
  const SpqrGrid all = spqr_fit(group, {}, 3);
  EXPECT_TRUE(at::allclose(all.scales, at::tensor({6.0f / 7, 0.5f / 7})));
  EXPECT_TRUE(at::allclose(all.zeros, at::tensor({7.0f / 6, 0.0f})));
  const at::Tensor left_out = at::tensor({0, 0, 1, 1, 1, 1}).view({2, 3}).to(at::kBool);
  const SpqrGrid some = spqr_fit(group, left_out, 3);
  EXPECT_TRUE(at::allclose(some.scales, at::tensor({3.0f / 7, 0.0f})));
  EXPECT_TRUE(at::allclose(some.zeros, at::tensor({7.0f / 3, 0.0f})));
}

TEST(SpqrFit, SecondLevelIsWhatAConsumerComputes) {
  at::manual_seed(2);
  const ScaleGrid scheme{3, 16};
  SecondLevel level = empty_level(64, 2, scheme);
  SpqrGrid grid{at::rand({64}) * 0.01 + 0.002, at::rand({64}) * 7};
  grid.scales.slice(0, 16, 32).fill_(0.0123f);                            // all one value
  grid.scales.slice(0, 32, 48).fill_(3e-7f).add_(at::rand({16}) * 3e-7);  // subnormal in FP16
  grid.zeros.slice(0, 48, 64).fill_(0);
  const SpqrGrid before = grid;
  spqr_second_level(grid, scheme, 1, level);
  const auto decode = [&](const at::Tensor& codes, const at::Tensor& scales, const at::Tensor& zeros) {
    const auto blocks = [&](const at::Tensor& t) {
      return t.select(1, 1).repeat_interleave(16).to(at::kHalf);
    };
    return ((codes.select(1, 1).to(at::kHalf) - blocks(zeros)) * blocks(scales)).to(at::kFloat);
  };
  EXPECT_TRUE(at::equal(grid.scales, decode(level.scale_codes, level.scale_scales, level.scale_zeros)));
  EXPECT_TRUE(at::equal(grid.zeros, decode(level.zero_codes, level.zero_scales, level.zero_zeros)));
  // Half a step of the second level (of 7 to the block's range), and FP16's rounding.
  EXPECT_TRUE(at::allclose(grid.scales.slice(0, 0, 16), before.scales.slice(0, 0, 16), 2e-3, 0.01 / 14));
  EXPECT_TRUE(at::allclose(grid.scales.slice(0, 16, 32), before.scales.slice(0, 16, 32), 1e-3, 0));
  EXPECT_TRUE(at::allclose(grid.scales.slice(0, 32, 48), before.scales.slice(0, 32, 48), 0, 9e-8));
  EXPECT_TRUE(at::allclose(grid.zeros, before.zeros, 0, 7.0 / 14 + 0.01));
  EXPECT_TRUE(grid.zeros.slice(0, 48, 64).eq(0).all().item<bool>());
}

}  // namespace
}  // namespace lathe
