// Layer problems with a known structure for the tests of algorithms.
#pragma once

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "algorithms/algorithm.h"
#include "algorithms/gptq.h"
#include "calib/stats/stats_collector.h"
#include "lib/base/error.h"

namespace lathe::testing_problems {

inline InputStats stats_of(const at::Tensor& x) {
  StatsCollector collector({.gram = true, .mean_abs = true}, x.size(-1), c10::kCPU, "test input");
  collector.observe(x);
  return collector.finish();
}

/// Of inputs beside what the unquantised model would have given.
inline InputStats stats_of_pair(const at::Tensor& x, const at::Tensor& reference) {
  StatsCollector collector({.gram = true, .cross_gram = true}, x.size(1), c10::kCPU, "test input");
  collector.observe_pair(x, reference);
  return collector.finish();
}

inline LinearProblem linear(std::string name, LinearRole role, at::Tensor weight, Scheme scheme) {
  return {std::move(name), role, std::move(weight), std::move(scheme), DType::F16, std::nullopt};
}

/// Inputs whose channels depend on each other, as those of a network do.
inline at::Tensor correlated_tokens(int64_t tokens, int64_t width) {
  const at::Tensor mixing =
      at::randn({width, width}) / std::sqrt(static_cast<double>(width)) + at::eye(width);
  return at::randn({tokens, width}).mm(mixing) * at::randn({width}).mul(0.7).exp();
}

/// Tokens with a few channels `factor` times larger than the rest, as LLM activations have them.
inline at::Tensor tokens_with_outliers(int64_t tokens, int64_t width, double factor) {
  at::Tensor x = at::randn({tokens, width});
  for (int64_t channel = 3; channel < width; channel += 41) x.select(1, channel).mul_(factor);
  return x;
}

/// ||(What - W) X^T||^2 / tokens, in FP64 on the tokens themselves.
inline double token_loss(const at::Tensor& weight, const at::Tensor& approximation, const at::Tensor& x) {
  const at::Tensor delta = (approximation - weight).to(at::kDouble);
  return x.to(at::kDouble).mm(delta.t()).square().sum().item<double>() / static_cast<double>(x.size(0));
}

/// Solving the problem ends with a UserError that names the linear and says `text`.
template <class Solve>
void expect_refused(const Solve& solve, const LinearProblem& problem, const std::string& text) {
  try {
    solve(problem);
    ADD_FAILURE() << "solved what should be refused: " << text;
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(problem.name));
    EXPECT_THAT(error.what(), testing::HasSubstr(text));
  }
}

inline const TransformEntry& transform_row(const std::string& name) {
  for (const TransformEntry& row : transforms()) {
    if (row.name == name) return row;
  }
  throw std::runtime_error("no transform " + name);
}

inline const SolverEntry& solver_row(const std::string& name) {
  for (const SolverEntry& row : solvers()) {
    if (row.name == name) return row;
  }
  throw std::runtime_error("no solver " + name);
}

inline Options gptq_options_with(const std::map<std::string, OptionValue>& values) {
  Options options(gptq_options());
  for (const auto& [name, value] : values) options.set(name, value);
  return options;
}

/// The default solver's dequantised answer for one linear.
inline at::Tensor round_to_nearest(LinearProblem problem) {
  const SolverEntry& row = solver_row("rtn");
  SharedInputProblem shared;
  shared.linears.push_back(std::move(problem));
  return row.make(Options(row.options))->solve(shared).front().quantized.dequantize();
}

}  // namespace lathe::testing_problems
