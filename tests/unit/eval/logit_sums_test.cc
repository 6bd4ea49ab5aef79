// Sums over pieces of the vocabulary are those over all of it.
#include "lib/eval/logit_sums.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

namespace lathe {
namespace {

TEST(LogitSums, GiveProbabilitiesOfTheBestTokenAndOfTheTarget) {
  at::manual_seed(8);
  const at::Tensor logits = at::randn({5, 40}) * 3, targets = at::tensor({3, 39, 0, 17, -1}, at::kLong);
  LogitSums sums(targets);
  sums.add(logits.narrow(1, 0, 25), {0, 0});
  sums.add(logits.narrow(1, 25, 15), {0, 25});
  const at::Tensor expected = logits.to(at::kDouble).softmax(1);
  EXPECT_TRUE(at::allclose(sums.best_probability(), std::get<0>(expected.max(1)), 1e-5));
  at::Tensor chosen = expected.gather(1, targets.clamp(0).unsqueeze(1)).squeeze(1);
  chosen[4] = 0;
  EXPECT_TRUE(at::allclose(sums.target_probability(), chosen, 1e-5));
}

struct Logits {
  at::Tensor model, reference, targets;
};

/// 5 positions of 300 tokens; the last position counts for nothing.
Logits made(double scale, double shift) {
  at::manual_seed(3);
  const at::Tensor reference = at::randn({5, 300}) * scale;
  return {reference + at::randn({5, 300}) * 0.1 + shift, reference,
          at::tensor({7, 299, 0, 150, -1}, at::kLong)};
}

DivergenceSums summed(const Logits& logits, const std::vector<int64_t>& tokens,
                      const std::vector<int64_t>& positions) {
  DivergenceSums sums(logits.targets);
  int64_t token = 0;
  for (const int64_t n : tokens) {
    int64_t position = 0;
    for (const int64_t m : positions) {
      const auto piece = [&](const at::Tensor& all) {
        return all.narrow(0, position, m).narrow(1, token, n);
      };
      sums.add(piece(logits.model), piece(logits.reference), {position, token});
      position += m;
    }
    token += n;
  }
  return sums;
}

void expect_definition(const Logits& logits, const DivergenceSums& sums) {
  const at::Tensor p = at::log_softmax(logits.model.to(at::kDouble), 1);
  const at::Tensor q = at::log_softmax(logits.reference.to(at::kDouble), 1);
  const at::Tensor kl = (q.exp() * (q - p)).sum(1);
  EXPECT_LT((sums.divergence() - kl).abs().max().item<double>(), 5e-7);
  double nll = 0;
  for (int64_t i = 0; i < 4; ++i) nll -= p[i][logits.targets[i].item<int64_t>()].item<double>();
  EXPECT_NEAR(sums.model().negative_log_likelihood() / nll, 1, 1e-6);
  EXPECT_TRUE(at::equal(sums.model().best(), p.argmax(1)));
  EXPECT_TRUE(at::equal(sums.reference().best(), q.argmax(1)));
}

TEST(LogitSums, AnyPiecesGiveTheDefinition) {
  for (const double scale : {0.1, 3.0, 30.0}) {
    SCOPED_TRACE(scale);
    const Logits logits = made(scale, 0);
    expect_definition(logits, summed(logits, {300}, {5}));
    expect_definition(logits, summed(logits, {1, 149, 150}, {2, 3}));
    expect_definition(logits, summed(logits, std::vector<int64_t>(300, 1), {1, 1, 1, 1, 1}));
  }
}

/// What grows from piece to piece, and what falls: exponentials of the first pieces must not overflow.
TEST(LogitSums, LargestLogitsAtEitherEnd) {
  for (const double slope : {1.0, -1.0}) {
    Logits logits = made(1, 0);
    const at::Tensor ramp = at::arange(300, at::kFloat) * slope;
    logits.model += ramp;
    logits.reference += ramp;
    const DivergenceSums sums = summed(logits, {100, 100, 100}, {5});
    const at::Tensor p = at::log_softmax(logits.model.to(at::kDouble), 1);
    const at::Tensor q = at::log_softmax(logits.reference.to(at::kDouble), 1);
    EXPECT_LT((sums.divergence() - (q.exp() * (q - p)).sum(1)).abs().max().item<double>(), 1e-5);
    EXPECT_TRUE(at::equal(sums.model().best(), p.argmax(1)));
  }
}

TEST(LogitSums, TheSameLogitsDivergeNowhere) {
  Logits logits = made(3, 0);
  logits.model = logits.reference;
  const DivergenceSums sums = summed(logits, {17, 283}, {5});
  EXPECT_EQ(sums.divergence().abs().max().item<double>(), 0);
}

/// A constant beside all logits of a position is no difference.
TEST(LogitSums, AShiftIsNoDivergence) {
  Logits logits = made(3, 0);
  logits.model = logits.reference + 4;
  EXPECT_LT(summed(logits, {17, 283}, {5}).divergence().abs().max().item<double>(), 2e-6);
}

TEST(LogitSums, OfEqualLogitsTheFirstIsTheMostLikely) {
  LogitSums sums(at::full({1}, -1, at::kLong));
  for (const int64_t token : {0, 3, 6}) sums.add(at::tensor({1.0F, 2.0F, 1.0F}).unsqueeze(0), {0, token});
  EXPECT_EQ(sums.best().item<int64_t>(), 1);
}

}  // namespace
}  // namespace lathe
