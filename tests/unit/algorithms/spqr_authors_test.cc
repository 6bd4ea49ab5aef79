// SpQR beside what its authors' code makes of the same matrix.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "algorithms/spqr_reference.h"
#include "tests/unit/algorithms/problems.h"

namespace lathe {
namespace {

/// What the authors' code made of one matrix (tests/golden/spqr/solver.json), columns in the order of
/// rounding.
struct AuthorsCase {
  std::string name;
  SpqrReferenceSettings settings;
  at::Tensor weight, hessian;  // columns as they stand
  at::Tensor order, codes, is_outlier, values;
};

at::Tensor weight_of(const nlohmann::json& c, const at::Tensor& weight) {
  return c.value("positive", false) ? weight.abs() + 0.25 : weight;
}

std::vector<AuthorsCase> authors_cases() {
  std::ifstream file(std::string(LATHE_SOURCE_DIR) + "/tests/golden/spqr/solver.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  const int64_t rows = golden.at("rows"), width = golden.at("width");
  const auto matrix = [](const nlohmann::json& values, int64_t r, int64_t c) {
    return at::tensor(values.get<std::vector<double>>(), at::kDouble).view({r, c});
  };
  std::vector<AuthorsCase> cases;
  for (const nlohmann::json& c : golden.at("cases")) {
    AuthorsCase one{.name = c.at("name"),
                    .settings = {.bits = c.value("bits", 3), .group_size = 16},
                    .weight = weight_of(c, matrix(golden.at("weight_1024"), rows, width) / 1024),
                    .hessian = matrix(golden.at("hessian"), width, width),
                    .order = at::tensor(c.at("order").get<std::vector<int64_t>>()),
                    .codes = at::empty({rows, width}, at::kLong),
                    .is_outlier = at::zeros({rows, width}, at::kBool),
                    .values = matrix(c.at("values"), rows, width)};
    one.settings.rule = c.value("simplified", false) ? OutlierRule::error : OutlierRule::refined;
    if (!c.at("tau").is_null()) one.settings.threshold = c.at("tau");
    one.settings.act_order = c.value("act_order", false);
    if (c.contains("second_bits")) one.settings.scale_grid = ScaleGrid{c.at("second_bits"), 16};
    for (int64_t row = 0; row < rows; ++row)
      one.codes[row].copy_(
          at::tensor(c.at("codes").at(static_cast<size_t>(row)).get<std::vector<int64_t>>()));
    for (const nlohmann::json& place : c.at("outliers"))
      one.is_outlier[place.at(0).get<int64_t>()][place.at(1).get<int64_t>()].fill_(true);
    cases.push_back(std::move(one));
  }
  return cases;
}

const AuthorsCase& case_named(const std::string& name) {
  static const std::vector<AuthorsCase> cases = authors_cases();
  const auto found = std::ranges::find(cases, name, &AuthorsCase::name);
  if (found == cases.end()) throw std::runtime_error("no case " + name);
  return *found;
}

double share(const at::Tensor& same) { return same.to(at::kDouble).mean().item<double>(); }

double loss(const AuthorsCase& c, const at::Tensor& values) {
  const at::Tensor delta = values - c.weight;
  return delta.mm(c.hessian).mul(delta).sum().item<double>();
}

/// The authors' values with the columns as they stand.
at::Tensor authors_values(const AuthorsCase& c) {
  return at::empty_like(c.values).index_copy_(1, c.order, c.values);
}

TEST(SpqrAuthors, ReferenceReachesTheirCodesOutliersAndValues) {
  for (const char* name : {"plain", "ordered", "refined", "error"}) {
    const AuthorsCase& c = case_named(name);
    const auto result = spqr_reference(c.weight, c.hessian, c.settings);
    EXPECT_TRUE(result.permutation.equal(c.order)) << name;
    EXPECT_TRUE(result.is_outlier.equal(c.is_outlier)) << name;
    EXPECT_EQ(c.is_outlier.any().item<bool>(), std::isfinite(c.settings.threshold)) << name;
    // A kept weight's code is the nearest to it, theirs the nearest to 0.
    EXPECT_GT(share((result.codes == c.codes).masked_select(c.is_outlier.logical_not())), 0.995) << name;
    EXPECT_GT(share((result.values - authors_values(c)).abs() < 1e-3), 0.995) << name;
    EXPECT_NEAR(loss(c, result.values), loss(c, authors_values(c)), 1e-3 * loss(c, result.values)) << name;
  }
}

// Ours is computed in FP16, as the consumer does, theirs in FP32: a few codes lie on the other side of a tie.
TEST(SpqrAuthors, SecondLevelDiffersByItsRoundingToFp16) {
  const AuthorsCase& c = case_named("second level");
  const auto result = spqr_reference(c.weight, c.hessian, c.settings);
  EXPECT_TRUE(result.is_outlier.equal(c.is_outlier));
  EXPECT_GT(share((result.codes == c.codes).masked_select(c.is_outlier.logical_not())), 0.98);
  EXPECT_NEAR(loss(c, result.values), loss(c, authors_values(c)), 0.01 * loss(c, result.values));
}

TEST(SpqrAuthors, SolverReachesTheirOutliersAndValuesWithTheirOptions) {
  const AuthorsCase& c = case_named("second level");
  const SolverEntry& row = testing_problems::solver_row("spqr");
  Options options(row.options);
  options.set("outliers", std::string("refined"));
  options.set("select", std::string("threshold"));
  options.set("threshold", 0.2);
  options.set("damping", 0.01);
  Scheme scheme{"int", 3, 16, false};
  scheme.scale_grid = c.settings.scale_grid;
  InputStats stats;
  stats.gram = c.hessian.to(at::kFloat);
  SharedInputProblem problem;
  problem.linears = {testing_problems::linear("l", LinearRole::up_proj, c.weight.to(at::kFloat), scheme)};
  problem.stats = &stats;
  const QuantizedTensor found = row.make(options)->solve(problem).front().quantized;
  EXPECT_EQ(found.outliers->count(), c.is_outlier.sum().item<int64_t>());
  const at::Tensor values = found.dequantize().to(at::kDouble);
  EXPECT_GT(share((values - authors_values(c)).abs() < 1e-3), 0.97);
  EXPECT_NEAR(loss(c, values), loss(c, authors_values(c)), 0.01 * loss(c, values));
}

// What the essay says of ranges: ours reach to 0, theirs from the least weight of a group to the largest.
TEST(SpqrAuthors, RangesOfOneSignDifferByReachingToZero) {
  const AuthorsCase& c = case_named("one sign");
  const auto result = spqr_reference(c.weight, c.hessian, c.settings);
  const at::Tensor group = c.weight.slice(1, 0, 16);  // the first one, whose range no error has reached
  const at::Tensor lo = group.amin(1, true), hi = group.amax(1, true);
  const auto on_grid = [](const at::Tensor& values, const at::Tensor& from, const at::Tensor& to) {
    const at::Tensor code = (values - from) / (to - from) * 7;
    return share(((code - code.round().clamp(0, 7)).abs() < 1e-3));
  };
  const at::Tensor ours = result.values.slice(1, 0, 16), theirs = c.values.slice(1, 0, 16);
  EXPECT_EQ(on_grid(ours, at::zeros_like(lo), hi), 1);
  EXPECT_EQ(on_grid(theirs, lo, hi), 1);
  EXPECT_LT(on_grid(theirs, at::zeros_like(lo), hi), 0.5);
  EXPECT_TRUE(result.zeros.select(1, 0).eq(0).all().item<bool>());
}

}  // namespace
}  // namespace lathe
