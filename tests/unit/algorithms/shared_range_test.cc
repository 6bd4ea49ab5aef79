// Ranges where rows share a scale: chosen from all weights under it, whatever linear or row they stand in.
#include "algorithms/shared_range.h"

#include <cmath>

#include "algorithms/tensor_scale.h"
#include "calib/stats/clip.h"
#include "lib/kernels/group_quant.h"
#include "tests/unit/algorithms/problems.h"

namespace lathe {
namespace {

const Scheme kTensor = Scheme::of_floats("fp8_e4m3", -1, -1);

/// Two linears of one input: the larger weight of one of them is an outlier for both.
std::vector<LinearProblem> two_linears(const Scheme& scheme) {
  at::manual_seed(1);
  std::vector<LinearProblem> linears = {
      testing_problems::linear("q", LinearRole::q_proj, at::randn({40, 512}), scheme),
      testing_problems::linear("k", LinearRole::k_proj, at::randn({24, 512}) * 0.5, scheme)};
  linears[1].weight[7][11] = -60;
  return linears;
}

at::Tensor all_values(const std::vector<LinearProblem>& linears) {
  std::vector<at::Tensor> values;
  for (const LinearProblem& linear : linears) values.push_back(linear.weight.flatten());
  return at::cat(values);
}

double tensor_end(const std::vector<LinearProblem>& linears, const RangeChoice& choice,
                  const at::Tensor& importance = {}) {
  const at::Tensor largest = TensorMagnitude(linears).of(linears.front().scheme, {});
  return tensor_range(linears, linears.front().scheme, choice, importance, largest).item<double>();
}

/// The squared error of all linears on the grid that ends at `end`, each column's times its importance.
double tensor_error(const std::vector<LinearProblem>& linears, double end, const at::Tensor& importance) {
  double error = 0;
  for (const LinearProblem& linear : linears) {
    const at::Tensor ends = at::full({linear.weight.size(0), 1}, end, at::kFloat);
    const GroupRange range{-ends, ends};
    const Scheme rows = Scheme::of_floats("fp8_e4m3", 1, -1);
    const auto params = kernels::group_params(range, rows, linear.scale_dtype);
    const at::Tensor delta = kernels::group_fake_quantize(linear.weight, params, rows) - linear.weight;
    error += (delta.square() * importance).sum(at::kDouble).item<double>();
  }
  return error;
}

TEST(TensorRange, PercentileIsOfAllLinearsThatShareTheScale) {
  const std::vector<LinearProblem> linears = two_linears(kTensor);
  const auto [sorted, places] = all_values(linears).abs().sort();
  const auto count = static_cast<double>(sorted.numel());
  const double expected = sorted[static_cast<int64_t>(std::ceil(0.999 * count)) - 1].item<double>();
  EXPECT_EQ(tensor_end(linears, {.method = RangeMethod::percentile, .percentile = 99.9}), expected);
  EXPECT_EQ(tensor_end(linears, {}), 60);
}

TEST(TensorRange, KlIsTheEntropyClipOfTheirHistogram) {
  const std::vector<LinearProblem> linears = two_linears(kTensor);
  const at::Tensor values = all_values(linears);
  const Histogram histogram = magnitude_histogram(values.const_data_ptr<float>(), values.numel());
  const double end = tensor_end(linears, {.method = RangeMethod::kl});
  EXPECT_FLOAT_EQ(end, entropy_clip(histogram, float_levels(kE4M3)).magnitude);
  EXPECT_LT(end, 60);
}

TEST(TensorRange, MseTakesTheBestFactorForAllOfThem) {
  const std::vector<LinearProblem> linears = two_linears(kTensor);
  const RangeChoice mse{.method = RangeMethod::mse, .steps = 8, .max_shrink = 0.8};
  const RangeChoice weighted{.method = RangeMethod::weighted, .steps = 8, .max_shrink = 0.8};
  at::Tensor importance = at::ones({512});
  importance.slice(0, 0, 100).fill_(1e-4);  // of the outlier's column, too
  for (const bool by_importance : {false, true}) {
    const at::Tensor shares = by_importance ? importance : at::ones({512});
    double best = INFINITY;
    for (int step = 0; step <= 8; ++step)
      best = std::min(best, tensor_error(linears, 60.0f * static_cast<float>(1 - 0.1 * step), shares));
    const double end = by_importance ? tensor_end(linears, weighted, importance) : tensor_end(linears, mse);
    EXPECT_NEAR(tensor_error(linears, end, shares), best, 1e-6 * best) << by_importance;
  }
  EXPECT_EQ(tensor_end(linears, mse), 60) << "the outlier is the error";
  EXPECT_LT(tensor_end(linears, weighted, importance), 60);
}

TEST(TensorRange, ATieGoesToTheWiderAndABadValueKeepsItsMagnitude) {
  std::vector<LinearProblem> linears = {
      testing_problems::linear("l", LinearRole::up_proj, at::zeros({4, 512}), kTensor)};
  EXPECT_EQ(tensor_end(linears, {.method = RangeMethod::mse}), 0);
  for (const RangeMethod method : {RangeMethod::mse, RangeMethod::percentile, RangeMethod::kl}) {
    linears[0].weight = at::randn({4, 512});
    linears[0].weight[2][5] = NAN;
    EXPECT_TRUE(std::isnan(tensor_end(linears, {.method = method})));
  }
}

TEST(TensorRange, RtnGivesAllLinearsTheChosenScale) {
  const SolverEntry& row = testing_problems::solver_row("rtn");
  SharedInputProblem problem;
  problem.linears = two_linears(kTensor);
  for (const char* method : {"minmax", "percentile", "kl", "mse"}) {
    Options options(row.options);
    options.set("range", std::string(method));
    const auto solver = row.make(options);
    EXPECT_EQ(solver->refuses_groups(kTensor, 64 * 512), std::nullopt);
    const std::vector<SolveResult> results = solver->solve(problem);
    RangeChoice choice = range_choice(options);
    const double end = tensor_end(problem.linears, choice);
    for (const SolveResult& result : results) {
      ASSERT_EQ(result.quantized.scales.numel(), 1);
      EXPECT_NEAR(result.quantized.scales.item<double>(), end / 448, 1e-3 * end / 448) << method;
      EXPECT_LE(result.quantized.dequantize().abs().max().item<double>(), end * 1.001) << method;
    }
  }
}

TEST(TensorRange, RtnRefusesABadValueByItsPlace) {
  const SolverEntry& row = testing_problems::solver_row("rtn");
  for (const Scheme& scheme : {kTensor, Scheme::of_floats("fp8_e4m3", 8, 128)}) {
    for (const char* method : {"percentile", "kl", "mse"}) {
      SharedInputProblem problem;
      problem.linears = two_linears(scheme);
      problem.linears[1].weight[3][200] = INFINITY;
      Options options(row.options);
      options.set("range", std::string(method));
      const std::string place = fmt::format("row 3, group {} ", scheme.per_tensor() ? 0 : 1);
      testing_problems::expect_refused([&](const LinearProblem&) { row.make(options)->solve(problem); },
                                       problem.linears[1], place);
    }
  }
}

/// A block's weights side by side.
at::Tensor block_of(const at::Tensor& weight, int64_t row, int64_t rows, int64_t column, int64_t columns) {
  return weight.slice(0, row, row + rows).slice(1, column, column + columns).contiguous().view({1, -1});
}

TEST(BlockRange, IsThatOfTheBlocksWeightsTogether) {
  at::manual_seed(2);
  // The last block has 7 rows; large enough to be looked at in several chunks.
  const at::Tensor weight = at::randn({16 * 70 + 7, 4 * 80}) * at::randn({16 * 70 + 7, 1}).exp();
  const at::Tensor importance = at::rand({320}) + 0.1;
  const Scheme scheme = Scheme::of_floats("fp8_e4m3", 16, 80);
  for (const RangeMethod method :
       {RangeMethod::percentile, RangeMethod::mse, RangeMethod::weighted, RangeMethod::kl}) {
    const RangeChoice choice{.method = method, .percentile = 99};
    const GroupRange found = block_range(weight, scheme, DType::F16, choice, "l", importance);
    for (const int64_t row : {int64_t{0}, int64_t{16 * 69}, int64_t{16 * 70}}) {
      const int64_t rows = std::min<int64_t>(16, weight.size(0) - row);
      const at::Tensor shares = importance.slice(0, 160, 240).expand({rows, 80}).reshape({-1});
      const GroupRange alone =
          weight_range(block_of(weight, row, rows, 160, 80), Scheme::of_floats("fp8_e4m3", 1, -1), DType::F16,
                       choice, "l", shares);
      for (const int64_t of : {row, row + rows - 1}) {
        EXPECT_EQ(found.hi[of][2].item<float>(), alone.hi.item<float>()) << row;
        EXPECT_EQ(found.lo[of][2].item<float>(), alone.lo.item<float>()) << row;
      }
    }
  }
}

TEST(BlockRange, RtnClipsBlocks) {
  const SolverEntry& row = testing_problems::solver_row("rtn");
  SharedInputProblem problem;
  problem.linears = two_linears(Scheme::of_floats("fp8_e4m3", 8, 128));
  const auto scales = [&](const char* method) {
    Options options(row.options);
    options.set("range", std::string(method));
    return row.make(options)->solve(problem)[1].quantized.scales;
  };
  const at::Tensor plain = scales("minmax"), clipped = scales("percentile");
  EXPECT_EQ(plain.sizes(), at::IntArrayRef({3, 4}));
  EXPECT_TRUE((clipped < plain).all().item<bool>());
  EXPECT_LT(clipped[0][0].item<double>(), 0.2 * plain[0][0].item<double>()) << "the outlier's block";
}

}  // namespace
}  // namespace lathe
