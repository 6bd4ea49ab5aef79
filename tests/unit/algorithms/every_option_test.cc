// Every value of every option that `quantize list` advertises does something or is refused by name: with the
// statistics that the algorithm asks for, and no others.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "algorithms/algorithm.h"
#include "lib/base/error.h"
#include "tests/unit/algorithms/problems.h"

namespace lathe {
namespace {

constexpr int64_t kIn = 512, kOut = 16;

std::vector<OptionValue> values_of(const OptionSpec& spec) {
  std::vector<OptionValue> values;
  for (const std::string& choice : spec.choices) values.emplace_back(choice);
  if (std::holds_alternative<bool>(spec.default_value)) return {true, false};
  if (spec.minimum == spec.maximum) return values;
  for (const double value : {spec.minimum, (spec.minimum + spec.maximum) / 2, spec.maximum}) {
    if (std::holds_alternative<int64_t>(spec.default_value)) values.emplace_back(static_cast<int64_t>(value));
    if (std::holds_alternative<double>(spec.default_value)) values.emplace_back(value);
  }
  return values;
}

/// Defaults, and what this option's condition asks for.
Options where_read(const OptionSpec& spec, const std::vector<OptionSpec>& specs) {
  Options options(specs);
  const auto& [other, word, or_word] = spec.only_where;
  if (!other.empty() && !std::holds_alternative<bool>(options.all().at(other))) options.set(other, word);
  return options;
}

/// Calls `visit` with the options for each value of each option, and where the option has a condition, with
/// that fulfilled.
template <class Visit>
void for_each_value(const std::vector<OptionSpec>& specs, const Visit& visit) {
  for (const OptionSpec& spec : specs) {
    for (const OptionValue& value : values_of(spec)) {
      Options options = where_read(spec, specs);
      options.set(spec.name, value);
      SCOPED_TRACE(spec.name + " " + std::visit([](const auto& v) { return fmt::format("{}", v); }, value));
      visit(options);
    }
  }
}

/// Only what was asked for is there.
struct Problem {
  InputStats stats;
  SharedInputProblem shared;

  Problem(StatSet needs, const Scheme& scheme, bool activations, double spread = 0.05) {
    at::manual_seed(4);
    if (needs != StatSet{}) {
      StatsCollector collector(needs, kIn, c10::kCPU, "test input");
      const at::Tensor x = testing_problems::tokens_with_outliers(600, kIn, 20);
      needs.cross_gram ? collector.observe_pair(x, x + at::randn_like(x)) : collector.observe(x);
      stats = collector.finish();
      shared.stats = &stats;
    }
    shared.linears = {
        testing_problems::linear("l", LinearRole::up_proj, at::randn({kOut, kIn}) * spread, scheme)};
    if (activations) shared.linears.front().activations = ActivationScheme{};
  }
};

TEST(EveryOption, OfASolverRoundsOrIsRefused) {
  const Scheme rows{"int", 4, -1, false};
  Scheme two_levels{"int", 3, 16, false};
  two_levels.scale_grid.emplace().bits = 3;
  for (const SolverEntry& entry : solvers()) {
    SCOPED_TRACE(entry.name);
    Scheme floating;
    floating.type = "float";
    const Scheme& scheme = !entry.refuses(rows) ? rows : !entry.refuses(two_levels) ? two_levels : floating;
    ASSERT_FALSE(entry.refuses(scheme));
    for_each_value(entry.options, [&](const Options& options) {
      const auto solver = entry.make(options);
      const Problem problem(solver->needs(), scheme, false);
      const auto reason = solver->refuses_groups(scheme, scheme.group_length(kOut, kIn));
      if (reason) {
        EXPECT_THROW(solver->solve(problem.shared), UserError) << *reason;
        return;
      }
      const QuantizedTensor found = solver->solve(problem.shared).front().quantized;
      EXPECT_TRUE(at::isfinite(found.dequantize()).all().item<bool>());
    });
  }
}

/// The solver's answer, or nothing where it refuses.
at::Tensor answer(const SolverEntry& entry, const Options& options, const Scheme& scheme, double spread) {
  const auto solver = entry.make(options);
  if (solver->refuses_groups(scheme, scheme.group_length(kOut, kIn))) return {};
  const Problem problem(solver->needs(), scheme, false, spread);
  return solver->solve(problem.shared).front().quantized.dequantize();
}

/// Do two values of the option give different answers to any of the problems?
bool acts(const SolverEntry& entry, const OptionSpec& spec) {
  Scheme two_levels{"int", 3, 16, false};
  two_levels.scale_grid.emplace().bits = 3;
  Scheme real{"int", 4, -1, false};
  real.real_zero = true;
  const std::vector<Scheme> schemes = {{"int", 4, -1, false}, {"int", 2, 64, false}, two_levels, real};
  for (const Scheme& scheme : schemes) {
    if (entry.refuses(scheme)) continue;
    for (const double spread : {0.05, 2.0}) {
      Options options = where_read(spec, entry.options);
      at::Tensor first = answer(entry, options, scheme, spread);
      for (const OptionValue& value : values_of(spec)) {
        options.set(spec.name, value);
        const at::Tensor found = answer(entry, options, scheme, spread);
        if (first.defined() && found.defined() && !at::equal(first, found)) return true;
        if (!first.defined()) first = found;
      }
    }
  }
  return false;
}

TEST(EveryOption, OfASolverChangesAnAnswer) {
  // block_size cuts the work; offered_range looks at what a transform offers, and none is here.
  const std::set<std::string> elsewhere = {"block_size", "offered_range"};
  for (const SolverEntry& entry : solvers()) {
    for (const OptionSpec& spec : entry.options) {
      EXPECT_TRUE(elsewhere.contains(spec.name) || acts(entry, spec)) << entry.name << ": " << spec.name;
    }
  }
}

TEST(EveryOption, OfATransformFindsAFoldOrSaysWhyNot) {
  const ScaleEdge edge{ScaleEdge::Producer::norm, "norm", {Slot::mlp_in, std::nullopt}, 1, 0};
  for (const TransformEntry& entry : transforms()) {
    SCOPED_TRACE(entry.name);
    for_each_value(entry.options, [&](const Options& options) {
      const auto transform = entry.make(options);
      const bool quantises_inputs = entry.name == "smoothquant";
      const Problem problem(transform->needs(), {"int", quantises_inputs ? 8 : 4, -1, true},
                            quantises_inputs);
      const FoldDecision decision = transform->fold(edge, problem.shared);
      EXPECT_NE(decision.scales.defined(), !decision.note.empty()) << decision.note;
      if (decision.scales.defined()) {
        EXPECT_TRUE((decision.scales > 0).logical_and(at::isfinite(decision.scales)).all().item<bool>());
      }
      const auto range = transform->range(problem.shared.linears.front(), problem.stats);
      EXPECT_EQ(range.has_value(), transform->offers_ranges());
    });
  }
}

}  // namespace
}  // namespace lathe
