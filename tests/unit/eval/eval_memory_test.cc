// Hidden states of an evaluation go to a file when memory is short; of heads a piece stands in memory.
#include "lib/eval/eval_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr uint64_t kGB = 1'000'000'000;

ModelGraph graph_of(int64_t vocabulary) {
  return build_graph(parse_model_config({{"model_type", "llama"},
                                         {"hidden_size", 64},
                                         {"intermediate_size", 96},
                                         {"num_hidden_layers", 2},
                                         {"num_attention_heads", 4},
                                         {"num_key_value_heads", 2},
                                         {"vocab_size", vocabulary},
                                         {"rms_norm_eps", 1e-5},
                                         {"max_position_embeddings", 64},
                                         {"tie_word_embeddings", false},
                                         {"hidden_act", "silu"},
                                         {"torch_dtype", "float16"}},
                                        "config.json"));
}

EvalMemory plan(const ModelGraph& graph, bool reference, uint64_t ram) {
  const EvalInput input{&graph, nullptr};
  return plan_eval_memory({.model = input,
                           .reference = reference ? std::optional(input) : std::nullopt,
                           .rows = 20'000,
                           .ctx = 512,
                           .limits = {.ram = ram, .vram = {}, .disk = {}},
                           .machine = {},
                           .base_ram = 0});
}

TEST(EvalMemory, HiddenStatesGoToDiskWhenMemoryIsShort) {
  const ModelGraph graph = graph_of(100);  // 2.6 GB of hidden states, 1.6 of sums
  EXPECT_EQ(plan(graph, false, 5 * kGB).storage.placement, Placement::device);
  EXPECT_EQ(plan(graph, true, 5 * kGB).storage.placement, Placement::disk) << "two models";
  EXPECT_EQ(plan(graph, true, 8 * kGB).storage.placement, Placement::device);
  EXPECT_EQ(plan(graph, true, 5 * kGB).peak.disk, 2 * 20'000ull * 512 * 64 * 4);
}

/// The models run one after the other.
TEST(EvalMemory, AReferenceAddsNoBlocks) {
  const ModelGraph graph = graph_of(100);
  const auto peak = [&](bool reference) { return plan(graph, reference, 100 * kGB).peak.ram; };
  const uint64_t hidden = 20'000ull * 512 * 64 * 4;
  EXPECT_LT(peak(true) - peak(false) - hidden, 1'000'000u) << "but its hidden states and head";
}

/// A source that can't look rows of a head up: a packed one's.
class Packed : public WeightSource {
 public:
  bool contains(const std::string&) const override { return true; }
  at::Tensor load(const std::string&) const override { return {}; }
};

TEST(EvalMemory, AVocabularyCostsNothing) {
  const ModelGraph small = graph_of(100'000), large = graph_of(4'000'000);  // a head of 1 GB
  for (const bool reference : {false, true}) {
    const uint64_t peak = plan(large, reference, 100 * kGB).peak.ram;
    EXPECT_EQ(peak, plan(small, reference, 100 * kGB).peak.ram);
  }
}

TEST(EvalMemory, PackedHeadsThatDoNotFitAreRefused) {
  const ModelGraph graph = graph_of(4'000'000);
  const Packed packed;
  const auto planned = [&](uint64_t ram) {
    return plan_eval_memory({.model = {&graph, &packed},
                             .reference = EvalInput{&graph, nullptr},
                             .rows = 2,
                             .ctx = 512,
                             .limits = {.ram = ram, .vram = {}, .disk = {}},
                             .machine = {},
                             .base_ram = 0});
  };
  EXPECT_NO_THROW(planned(4 * kGB));
  try {
    planned(kGB);
    FAIL() << "the head fitted";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("evaluation does not fit"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("--max-ram"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("evaluate: null"));
  }
}

}  // namespace
}  // namespace lathe
