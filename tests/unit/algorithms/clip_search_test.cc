#include "algorithms/clip_search.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lib/kernels/group_quant.h"
#include "lib/numeric/quadratic_form.h"
#include "tests/unit/algorithms/problems.h"

namespace lathe {
namespace {

using testing_problems::stats_of;
using testing_problems::tokens_with_outliers;

/// d_g H_gg d_g^T for each row and group in FP64, [out, groups].
at::Tensor objective(const at::Tensor& weight, const Scheme& scheme, const GroupRange& range,
                     const at::Tensor& gram) {
  const kernels::GroupParams params = kernels::group_params(range, scheme, DType::F16);
  const at::Tensor delta = (kernels::group_fake_quantize(weight, params, scheme) - weight).to(at::kDouble);
  const int64_t length = scheme.group_length(weight.size(1));
  std::vector<at::Tensor> losses;
  for (int64_t at = 0; at < weight.size(1); at += length) {
    const at::Tensor d = delta.slice(1, at, at + length);
    losses.push_back(
        d.mm(gram.slice(0, at, at + length).slice(1, at, at + length).to(at::kDouble)).mul(d).sum(1));
  }
  return at::stack(losses, 1);
}

TEST(ClipSearch, TakesTheBestStepOfEveryGroup) {
  at::manual_seed(21);
  const at::Tensor x = tokens_with_outliers(300, 96, 10), gram = stats_of(x).gram;
  for (const bool symmetric : {true, false}) {
    for (const int64_t group : {32, -1}) {
      const Scheme scheme{"int", 3, group, symmetric};
      const at::Tensor weight = at::randn({7, 96}).pow(3).contiguous();  // long tails, which clipping is for
      const GroupRange full = kernels::group_min_max(weight, scheme);
      const GroupRange found = search_clip(weight, scheme, DType::F16, gram, {10, 0.6});
      const at::Tensor loss = objective(weight, scheme, found, gram);
      at::Tensor best = objective(weight, scheme, full, gram);
      EXPECT_TRUE((loss <= best * (1 + 1e-5)).all().item<bool>()) << "worse than no clipping";
      EXPECT_LT(loss.sum().item<double>(), 0.9 * best.sum().item<double>());
      for (int step = symmetric ? -3 : 1; step <= 10; ++step) {  // 3.5 / 3 in place of 1.18
        const double shrink = std::min(1 - 0.06 * step, 3.5 / 3);
        best = at::minimum(best, objective(weight, scheme, {full.lo * shrink, full.hi * shrink}, gram));
      }
      EXPECT_TRUE(at::allclose(loss, best, 1e-4, 1e-9)) << scheme.describe();
    }
  }
}

TEST(ClipSearch, IsTheSameInChunksOfRows) {
  at::manual_seed(22);
  const Scheme scheme{"int", 4, 128, true};
  const at::Tensor gram = stats_of(at::randn({64, 1024})).gram, few = at::randn({3, 1024});
  const at::Tensor many = few.repeat({1000, 1});  // 3000 rows: two chunks
  ASSERT_LT(rows_per_chunk(many), many.size(0));
  const GroupRange one = search_clip(few, scheme, DType::F16, gram, {4, 0.5});
  const GroupRange all = search_clip(many, scheme, DType::F16, gram, {4, 0.5});
  EXPECT_GT((all.lo == one.lo.repeat({1000, 1})).to(at::kFloat).mean().item<double>(), 0.999);
}

TEST(ClipSearch, KeepsTheRangeWhereNothingIsGained) {
  const Scheme scheme{"int", 8, 16, false};
  const at::Tensor weight = at::tensor({1.0f, -1.0f}).repeat({2, 8}), gram = at::eye(16);
  const GroupRange found = search_clip(weight, scheme, DType::F32, gram, {20, 0.5});
  EXPECT_TRUE(at::equal(found.hi, at::ones({2, 1})));
  EXPECT_TRUE(at::equal(found.lo, -at::ones({2, 1})));
  const GroupRange zero = search_clip(at::zeros({2, 16}), scheme, DType::F16, gram, {20, 0.5});
  EXPECT_TRUE(at::equal(zero.hi, at::zeros({2, 1})));
}

TEST(ClipSearch, LeavesANanForTheSolver) {
  at::Tensor weight = at::randn({2, 16});
  weight[1][3] = NAN;
  const GroupRange found = search_clip(weight, {"int", 4, 16, true}, DType::F16, at::eye(16), {4, 0.5});
  EXPECT_TRUE(std::isfinite(found.hi[0][0].item<float>()));
  EXPECT_TRUE(std::isnan(found.hi[1][0].item<float>()));
}

}  // namespace
}  // namespace lathe
