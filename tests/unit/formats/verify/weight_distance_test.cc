// How far a linear may lie from its weights: rounding counts as one, folds are found, nothing else passes.
#include "formats/verify/weight_distance.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/unit/kernels/rounded.h"

namespace lathe {
namespace {

using test::round_to_nearest;

constexpr int64_t kOut = 96, kIn = 256;

at::Tensor weights(uint64_t seed) {
  at::manual_seed(seed);
  return at::randn({kOut, kIn}, at::kFloat).mul_(0.05);
}

WeightCheck check(const QuantizedTensor& tensor, const at::Tensor& original, Folds folds) {
  return check_weight(
      stored_weight("l", tensor), [&](int64_t begin, int64_t end) { return original.slice(0, begin, end); },
      folds);
}

Scheme scheme(int bits, bool symmetric) {
  return {.type = "int", .bits = bits, .group_size = 64, .symmetric = symmetric};
}

TEST(WeightDistance, RoundingToNearestIsWhatIsPredicted) {
  const at::Tensor weight = weights(1);
  std::vector<Scheme> schemes = {scheme(2, false), scheme(3, true), scheme(4, false), scheme(8, true)};
  for (const char* type : {"fp8_e4m3", "nvfp4", "mxfp4", "mxfp8"}) schemes.push_back(Scheme::of_floats(type));
  for (const Scheme& grid : schemes) {
    const WeightCheck found = check(round_to_nearest(weight, grid, DType::F16), weight, Folds::none);
    EXPECT_TRUE(found.findings.empty()) << grid.describe() << found.findings.front().text();
    EXPECT_GT(found.distance.of_predicted, 0.2) << grid.describe();
    EXPECT_LT(found.distance.of_predicted, 1.3) << grid.describe();
  }
}

TEST(WeightDistance, FoldsAreFitted) {
  const at::Tensor weight = weights(2);
  const at::Tensor rows = at::rand({kOut, 1}).mul_(4).exp_(), columns = at::rand({kIn}).mul_(3).exp_();
  const QuantizedTensor tensor = round_to_nearest(weight * rows * columns, scheme(4, false), DType::F16);
  EXPECT_FALSE(check(tensor, weight, Folds::none).findings.empty());
  const WeightCheck found = check(tensor, weight, Folds::possible);
  EXPECT_TRUE(found.findings.empty()) << found.findings.front().text();
  EXPECT_LT(found.distance.of_predicted, 2);
  const at::Tensor ratio = found.distance.columns / columns;
  EXPECT_LT((ratio / ratio.median() - 1).abs().median().item<double>(), 0.2);
}

TEST(WeightDistance, NoFoldMakesAnotherMatrixOfIt) {
  const QuantizedTensor tensor = round_to_nearest(weights(3), scheme(4, false), DType::F16);
  const WeightCheck found = check(tensor, weights(4), Folds::certain);
  ASSERT_EQ(found.findings.size(), 1u);
  EXPECT_EQ(found.findings[0].check, check::distance);
}

TEST(WeightDistance, ZeroPointsThatAreOneOff) {
  const at::Tensor weight = weights(5);
  for (const int bits : {2, 3, 4, 8}) {
    QuantizedTensor tensor = round_to_nearest(weight, scheme(bits, false), DType::F16);
    tensor.zero_points = tensor.zero_points - 1;
    EXPECT_FALSE(check(tensor, weight, Folds::none).findings.empty()) << bits;
  }
}

TEST(WeightDistance, AllScalesOrARowsThatAreTooLargeOrTooSmall) {
  const at::Tensor weight = weights(10);
  std::vector<Scheme> schemes = {scheme(3, true), scheme(4, true), scheme(8, false)};
  for (const char* type : {"fp8_e4m3", "nvfp4", "mxfp4"}) schemes.push_back(Scheme::of_floats(type));
  for (const Scheme& grid : schemes) {
    const QuantizedTensor whole = round_to_nearest(weight, grid, DType::F16);
    const auto look = [&](const at::Tensor& values) {
      StoredWeight stored = stored_weight("l", whole);
      stored.values = [&](int64_t begin, int64_t end) { return values.slice(0, begin, end); };
      const Findings found =
          check_weight(
              stored, [&](int64_t begin, int64_t end) { return weight.slice(0, begin, end); }, Folds::none)
              .findings;
      return found.empty() ? "nothing" : found.front().place;
    };
    for (const double factor : {0.5, 0.75, 1.0, 1.25, 2.0})
      EXPECT_EQ(look(whole.dequantize() * factor), factor == 1 ? "nothing" : "l")
          << grid.describe() << factor;
    for (const double factor : {0.5, 1.6}) {
      at::Tensor values = whole.dequantize();
      values[5].mul_(factor);
      EXPECT_EQ(look(values).substr(0, 8), "l: row 5") << grid.describe() << factor;
    }
  }
}

TEST(WeightDistance, OneGroupThatIsWrong) {
  const at::Tensor weight = weights(6);
  QuantizedTensor tensor = round_to_nearest(weight, scheme(4, true), DType::F16);
  tensor.scales[17][2].mul_(6);
  const WeightCheck found = check(tensor, weight, Folds::none);
  ASSERT_EQ(found.findings.size(), 1u);
  EXPECT_EQ(found.findings[0].place, "l: row 17, group 2");
}

TEST(WeightDistance, WeightsThatMakeUpForAHugeOneOfTheirRow) {
  at::Tensor weight = weights(11);
  weight[27][3] = -66;
  for (const int64_t row : {int64_t{27}, int64_t{8}}) {
    at::Tensor moved = weight.clone();
    moved[row][200] = 16;
    const WeightCheck found =
        check(round_to_nearest(moved, scheme(4, false), DType::F16), weight, Folds::none);
    EXPECT_EQ(found.findings.empty(), row != 8);
  }
}

TEST(WeightDistance, ANaNIsNoSmallDistance) {
  const at::Tensor weight = weights(7);
  QuantizedTensor tensor = round_to_nearest(weight, scheme(4, true), DType::F16);
  tensor.scales[0][0].fill_(NAN);
  EXPECT_FALSE(check(tensor, weight, Folds::possible).findings.empty());
}

TEST(WeightDistance, GroupsAndRowsThatLostAllTheyHeld) {
  const at::Tensor weight = weights(8);
  QuantizedTensor tensor = round_to_nearest(weight, scheme(4, true), DType::F16);
  tensor.codes[3].zero_();
  tensor.codes[9].slice(0, 64, 128).fill_(2);
  const Findings found = check(tensor, weight, Folds::none).findings;
  ASSERT_GE(found.size(), 2u);
  EXPECT_EQ(found[0].place, "l: row [3]");
  EXPECT_EQ(found[1].place, "l: group [9, 1]");
}

TEST(WeightDistance, DeadChannelsAreNoLoss) {
  const at::Tensor weight = weights(9);
  at::Tensor left = weight.clone();
  left.slice(1, 64, 128).zero_();  // what GPTQ makes of channels without a signal
  const QuantizedTensor tensor = round_to_nearest(left, scheme(4, true), DType::F16);
  const WeightCheck found = check(tensor, weight, Folds::none);
  EXPECT_TRUE(found.findings.empty()) << found.findings.front().text();
}

}  // namespace
}  // namespace lathe
