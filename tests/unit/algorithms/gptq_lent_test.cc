// GPTQ where memory is short: parts of the rows, the factor in the Gram matrix's place; with the same bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>

#include "lib/base/error.h"
#include "lib/kernels/group_quant.h"
#include "tests/unit/algorithms/problems.h"

namespace lathe {
namespace {

using testing_problems::correlated_tokens;
using testing_problems::gptq_options_with;
using testing_problems::linear;
using testing_problems::solver_row;
using testing_problems::stats_of_pair;

/// Two linears of one input whose rows are solved in parts, which end within them.
std::vector<LinearProblem> tall_linears(int64_t in, const Scheme& scheme) {
  std::vector<LinearProblem> linears;
  for (const int64_t rows : {1501, 2999}) {
    linears.push_back(linear(fmt::format("l{}", rows), LinearRole::up_proj, at::randn({rows, in}), scheme));
    const GroupRange range = kernels::group_min_max(linears.back().weight * 0.9, scheme);
    if (!scheme.shares_rows()) linears.back().range = range;
  }
  return linears;
}

TEST(GptqLent, CodesAreTheSame) {
  at::manual_seed(31);
  const int64_t in = 64;
  const at::Tensor reference = correlated_tokens(200, in);
  at::Tensor x = reference + 0.3 * at::randn({200, in}) * reference.std(0);
  for (const int64_t dead : {5, 40}) x.select(1, dead).zero_();
  const Scheme asymmetric{"int", 4, 16, false}, symmetric{"int", 3, 32, true};
  const struct {
    std::vector<Scheme> schemes;  // of both linears
    std::map<std::string, OptionValue> options;
  } cases[] = {
      {{asymmetric, asymmetric}, {}},
      {{asymmetric, symmetric}, {{"act_order", std::string("gar")}}},  // a factor each
      {{symmetric, symmetric}, {{"act_order", std::string("gar")}, {"static_groups", false}}},
      {{symmetric, symmetric}, {{"static_groups", false}}},
      {{asymmetric, asymmetric}, {{"importance", std::string("inverse")}}},
      {{asymmetric, asymmetric}, {{"offered_range", true}, {"act_order", std::string("none")}}},
      {{asymmetric, symmetric}, {{"match_reference", 0.5}, {"act_order", std::string("gar")}}},
      {{Scheme::of_floats("nvfp4"), Scheme::of_floats("nvfp4")}, {}},
  };
  for (const auto& [schemes, options] : cases) {
    std::vector<LinearProblem> linears = tall_linears(in, asymmetric);
    for (size_t k = 0; k < 2; ++k) linears[k].scheme = schemes[k];
    if (!options.contains("offered_range")) linears[0].range = linears[1].range = std::nullopt;
    InputStats stats = stats_of_pair(x, reference);
    const at::Tensor gram = stats.gram.clone();
    SharedInputProblem problem{.linears = linears, .stats = &stats};
    const std::unique_ptr<Solver> solver = solver_row("gptq").make(gptq_options_with(options));
    const std::vector<SolveResult> expected = solver->solve(problem);
    problem.lent = LentGram{&stats.gram, std::filesystem::temp_directory_path()};
    const std::vector<SolveResult> found = solver->solve(problem);
    EXPECT_TRUE(at::equal(stats.gram, gram)) << "it was given back as something else";
    ASSERT_EQ(found.size(), expected.size());
    for (size_t k = 0; k < found.size(); ++k) {
      const std::string where = schemes[k].describe() + (options.empty() ? "" : " " + options.begin()->first);
      const QuantizedTensor &a = found[k].quantized, &b = expected[k].quantized;
      EXPECT_TRUE(at::equal(a.codes, b.codes)) << where;
      EXPECT_TRUE(at::equal(a.scales, b.scales)) << where;
      EXPECT_EQ(a.zero_points.defined(), b.zero_points.defined());
      if (a.zero_points.defined()) {
        EXPECT_TRUE(at::equal(a.zero_points, b.zero_points)) << where;
      }
      EXPECT_EQ(a.group_index.defined(), b.group_index.defined());
      if (a.group_index.defined()) {
        EXPECT_TRUE(at::equal(a.group_index, b.group_index)) << where;
      }
      EXPECT_EQ(found[k].events, expected[k].events) << where;
    }
  }
}

TEST(GptqLent, ErrorsNameTheSameRow) {
  at::manual_seed(32);
  const int64_t in = 64;
  InputStats stats = testing_problems::stats_of(correlated_tokens(200, in));
  const auto refusal = [&](bool lends) {
    SharedInputProblem problem{.linears = tall_linears(in, {"int", 4, 16, false}), .stats = &stats};
    problem.linears[1].weight[2500][20] = std::numeric_limits<float>::infinity();
    if (lends) problem.lent = LentGram{&stats.gram, std::filesystem::temp_directory_path()};
    try {
      solver_row("gptq").make(gptq_options_with({}))->solve(problem);
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string("solved");
  };
  EXPECT_THAT(refusal(true), testing::HasSubstr("l2999: row 2500, group 1 "));
  EXPECT_EQ(refusal(true), refusal(false));
}

}  // namespace
}  // namespace lathe
