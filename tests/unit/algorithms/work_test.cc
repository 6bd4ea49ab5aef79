// What algorithms say that they take, counted by hand.
#include <gtest/gtest.h>

#include "algorithms/algorithm.h"

namespace lathe {
namespace {

template <class Table>
auto make(const Table& table, const std::string& name, const std::map<std::string, OptionValue>& set) {
  for (const auto& entry : table) {
    if (entry.name != name) continue;
    Options options(entry.options);
    for (const auto& [key, value] : set) options.set(key, value);
    return entry.make(options);
  }
  throw std::runtime_error("no algorithm " + name);
}

Work work_of(const std::string& name, const std::map<std::string, OptionValue>& set, const Scheme& scheme) {
  return make(solvers(), name, set)->work({100, 28}, 64, scheme);
}

const Scheme kPlain{.bits = 4, .group_size = 32, .symmetric = false};
constexpr double kWeights = 128 * 64;

TEST(Work, FlopsAreProductsFactorsAndRoundings) {
  const Work work = Work{.products = 3, .factors = 5, .roundings = 2} + Work{.products = 1};
  EXPECT_EQ(work, (Work{.products = 4, .factors = 5, .roundings = 2}));
  EXPECT_EQ(work.flops(), 4 + 5 + 2 * kRoundingFlops);
}

TEST(Work, OfRtn) {
  EXPECT_EQ(work_of("rtn", {}, kPlain), (Work{.roundings = kWeights}));
  const std::map<std::string, OptionValue> searched = {{"range", std::string("mse")}};
  EXPECT_EQ(work_of("rtn", searched, kPlain), (Work{.roundings = (1 + 41) * kWeights}));
  // A symmetric grid of 4 bits tries 7.5 / 7 of the range, too, in steps of 0.5 / 40: six more.
  const Scheme symmetric{.bits = 4, .group_size = 32};
  EXPECT_EQ(work_of("rtn", searched, symmetric), (Work{.roundings = (1 + 41 + 6) * kWeights}));
}

TEST(Work, OfGptq) {
  const Work plain = work_of("gptq", {{"range", std::string("minmax")}}, kPlain);
  EXPECT_DOUBLE_EQ(plain.factors, 2.0 / 3 * 64 * 64 * 64);
  EXPECT_EQ(plain.products, kWeights * 64);
  EXPECT_EQ(plain.roundings, kWeights);
  EXPECT_EQ(work_of("gptq", {{"match_reference", 1.0}}, kPlain).products, 9 * kWeights * 64);
}

TEST(Work, OfHqq) {
  const Scheme real{.bits = 4, .group_size = 32, .symmetric = false, .real_zero = true};
  EXPECT_EQ(work_of("hqq", {{"iterations", int64_t{7}}}, real), (Work{.roundings = 8 * kWeights}));
  EXPECT_EQ(work_of("hqq", {{"iterations", int64_t{7}}}, kPlain), (Work{.roundings = 11 * kWeights}));
}

TEST(Work, OfSpqr) {
  const Scheme scheme{.bits = 3, .group_size = 16, .symmetric = false, .scale_grid = ScaleGrid{3, 16}};
  const Work marked =
      make(solvers(), "spqr", {{"select", std::string("threshold")}})->work({64, 320}, 64, scheme);
  EXPECT_DOUBLE_EQ(marked.factors, 2.0 / 3 * 64 * 64 * 64);
  EXPECT_EQ(marked.products, 384.0 * 64 * 64);
  EXPECT_EQ(marked.roundings, 5 * 384.0 * 64);
  // A density: all four blocks of 64 rows, and of 20 blocks every second from the second on, eight times.
  const Work sought = make(solvers(), "spqr", {})->work({64, 320}, 64, scheme);
  const double rows = 384 + 8 * (64 + 10 * 16);
  EXPECT_EQ(sought.products, rows * 64 * 64);
  EXPECT_EQ(sought.roundings, 5 * rows * 64 + 4 * 384.0 * 64);
}

TEST(Work, OfTransforms) {
  const ScaleEdge norm{.producer = "norm", .input = {Slot::mlp_in, std::nullopt}};
  const ScaleEdge inner{.producer = "up", .input = {Slot::mlp_mid, std::nullopt}};
  const auto searched = [](double candidates) {
    return Work{.products = candidates * kWeights * 64, .roundings = candidates * kWeights};
  };
  const auto awq =
      make(transforms(), "awq", {{"grid", int64_t{10}}, {"refine", int64_t{3}}, {"mlp_mid", false}});
  EXPECT_EQ(awq->fold_work(norm, 128, 64), searched(14));
  EXPECT_EQ(awq->fold_work(inner, 128, 64), Work{});
  EXPECT_EQ(awq->range_work(LinearRole::q_proj, kPlain, 128, 64), Work{}) << "not clipped";
  EXPECT_EQ(awq->range_work(LinearRole::o_proj, kPlain, 128, 64),
            (Work{.products = 21 * kWeights * 2 * 32, .roundings = 21 * kWeights}));
  EXPECT_EQ(make(transforms(), "awq", {{"clip", false}})->range_work(LinearRole::o_proj, kPlain, 128, 64),
            Work{});
  EXPECT_EQ(make(transforms(), "smoothquant", {})->fold_work(norm, 128, 64), searched(2));
  EXPECT_EQ(make(transforms(), "smoothquant", {{"alpha", std::string("auto")}})->fold_work(norm, 128, 64),
            searched(22));
  EXPECT_EQ(make(transforms(), "smoothquant", {})->fold_work(inner, 128, 64), Work{});
}

TEST(Work, EverySolverThatRoundsCounts) {
  const Scheme levels{.bits = 3, .group_size = 16, .symmetric = false, .scale_grid = ScaleGrid{3, 16}};
  for (const SolverEntry& entry : solvers()) {
    if (entry.name == "float") continue;
    const auto solver = entry.make(Options(entry.options));
    EXPECT_GT(solver->work({32}, 64, entry.refuses(kPlain) ? levels : kPlain).flops(), 0) << entry.name;
  }
  for (const TransformEntry& entry : transforms()) {
    if (entry.rotates) continue;
    const ScaleEdge norm{.producer = "norm", .input = {Slot::attention_in, std::nullopt}};
    EXPECT_GT(entry.make(Options(entry.options))->fold_work(norm, 32, 64).flops(), 0) << entry.name;
  }
}

}  // namespace
}  // namespace lathe
