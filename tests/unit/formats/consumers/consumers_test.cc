// What the servers are said to make of schemes, shapes and tensor parallelism.
#include "formats/consumers/consumers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lathe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

PlannedLinear linear(LinearRole role, int64_t out, int64_t in, const Scheme& scheme) {
  PlannedLinear planned;
  const std::string name(name_of(role));
  const bool mlp = name == "gate_proj" || name == "up_proj" || name == "down_proj";
  planned.name = (mlp ? "model.layers.0.mlp." : "model.layers.0.self_attn.") + name;
  planned.role = role;
  planned.out = out;
  planned.in = in;
  planned.scheme = scheme;
  return planned;
}

/// SmolLM2's shapes: 9 heads, 3 key-value heads, width 576; or any other.
std::vector<PlannedLinear> block(int64_t hidden, int64_t kv, int64_t width, const Scheme& scheme) {
  return {linear(LinearRole::q_proj, hidden, hidden, scheme),
          linear(LinearRole::k_proj, kv, hidden, scheme),
          linear(LinearRole::v_proj, kv, hidden, scheme),
          linear(LinearRole::o_proj, hidden, hidden, scheme),
          linear(LinearRole::gate_proj, width, hidden, scheme),
          linear(LinearRole::up_proj, width, hidden, scheme),
          linear(LinearRole::down_proj, hidden, width, scheme)};
}

ConsumerVerdict verdict(const char* method, const char* consumer, const std::vector<PlannedLinear>& linears,
                        const HeadCounts& heads) {
  for (const ConsumerVerdict& verdict : judge_consumers(method, linears, heads))
    if (verdict.consumer == consumer) return verdict;
  return {};
}

TEST(Consumers, AnOrdinaryModelIsFineEverywhere) {
  const auto llama = block(4096, 1024, 14336, {"int", 4, 128, true});
  for (const char* consumer : {"vLLM", "vLLM on Hopper", "vLLM 0.11 and before"}) {
    EXPECT_THAT(verdict("compressed-tensors", consumer, llama, {32, 8, 128}).tensor_parallel,
                ElementsAre(1, 2, 4, 8))
        << consumer;
  }
  EXPECT_THAT(verdict("gptq", "vLLM", llama, {32, 8, 128}).describe(),
              HasSubstr("gptq_marlin, ok for TP 1, 2, 4, 8"));
}

TEST(Consumers, AGroupMayNotStraddleTwoGpus) {
  const auto tight = block(576, 192, 1536, {"int", 4, 64, true});
  const auto today = verdict("compressed-tensors", "vLLM", tight, {12, 4, 48});
  EXPECT_THAT(today.tensor_parallel, ElementsAre(1));
  EXPECT_THAT(
      today.problem,
      HasSubstr("TP 2 fails: model.layers.0.self_attn.o_proj: 576 / 2 is not a multiple of 64 (group_size)"));
}

TEST(Consumers, OldMarlinAndMacheteHaveTiles) {
  const auto narrow = block(576, 192, 1536, {"int", 4, 64, true});
  EXPECT_THAT(verdict("gptq", "vLLM 0.11 and before", narrow, {9, 3, 64}).problem,
              HasSubstr("576 is not a multiple of 128 (input features)"));
  EXPECT_THAT(verdict("compressed-tensors", "vLLM on Hopper", narrow, {9, 3, 64}).problem,
              HasSubstr("576 is not a multiple of 128 (output features)"));
}

TEST(Consumers, HeadsDecideTheDegreesAndFewKeyValueHeadsAreRepeated) {
  const Scheme channel{"int", 4, -1, true};
  EXPECT_THAT(verdict("awq", "vLLM", block(576, 192, 1536, channel), {9, 3, 64}).problem,
              HasSubstr("9 heads / 2"));
  EXPECT_THAT(verdict("awq", "vLLM", block(4096, 256, 8192, channel), {32, 2, 128}).tensor_parallel,
              ElementsAre(1, 2, 4, 8));
}

TEST(Consumers, SchemesWithoutAKernelAreNamed) {
  const auto three = block(4096, 1024, 14336, {"int", 3, 128, true});
  const auto none = verdict("compressed-tensors", "vLLM", three, {32, 8, 128});
  EXPECT_THAT(none.tensor_parallel, IsEmpty());
  EXPECT_THAT(
      none.describe(),
      HasSubstr("vLLM: not with Marlin: model.layers.0.self_attn.q_proj: Marlin has no kernel for int3"));
  EXPECT_THAT(verdict("gptq", "vLLM", block(4096, 1024, 14336, {"int", 4, 128, false}), {32, 8, 128}).problem,
              HasSubstr("no kernel for int4 asym"));
  EXPECT_THAT(verdict("gptq", "vLLM", block(4096, 1024, 14336, {"int", 4, 16, true}), {32, 8, 128}).problem,
              HasSubstr("takes group_size -1, 32, 64, 128, not 16"));
}

TEST(Consumers, ReadersAndThoseThatDoNotRead) {
  const auto linears = block(4096, 1024, 14336, {"int", 4, 128, true});
  EXPECT_THAT(verdict("compressed-tensors", "transformers", linears, {32, 8, 128}).describe(),
              HasSubstr("transformers: reads it through compressed-tensors"));
  EXPECT_THAT(verdict("spqr", "vLLM", linears, {32, 8, 128}).describe(), HasSubstr("vLLM: does not read it"));
  EXPECT_THAT(judge_consumers("compressed-tensors", {}, {32, 8, 128}), IsEmpty());
}

TEST(Consumers, QuantisedInputsHaveAKernelOfTheirOwn) {
  auto linears = block(4096, 1024, 14336, {"int", 8, -1, true});
  for (PlannedLinear& planned : linears) planned.activations = ActivationScheme{};
  EXPECT_EQ(verdict("compressed-tensors", "vLLM", linears, {32, 8, 128}).kernel, "CUTLASS int8");
}

TEST(Consumers, EveryRuleHasItsSource) {
  for (const KernelRule& rule : kernel_rules()) EXPECT_THAT(rule.source, HasSubstr("vllm")) << rule.kernel;
}

TEST(Consumers, FloatingPointGridsHaveKernelsOfTheirOwn) {
  PlannedLinear linear{"model.layers.0.mlp.down_proj", 256,        768,
                       Scheme::of_floats("nvfp4"),     DType::F16, LinearRole::down_proj};
  const auto text = [&](const char* method) {
    std::string all;
    for (const ConsumerVerdict& verdict : judge_consumers(method, {linear}, {4, 4, 64}))
      all += verdict.describe() + "\n";
    return all;
  };
  EXPECT_THAT(text("modelopt"), testing::HasSubstr("vLLM: Marlin NVFP4, ok for TP 1, 2, 4"));
  EXPECT_THAT(text("modelopt"), testing::HasSubstr("TensorRT-LLM: reads it through its own loader"));
  EXPECT_THAT(text("modelopt"), testing::HasSubstr("transformers: does not read it"));
  EXPECT_THAT(text("compressed-tensors"), testing::Not(testing::HasSubstr("Machete")));
  linear.activations = ActivationScheme::of_floats("nvfp4");
  EXPECT_THAT(text("compressed-tensors"), testing::HasSubstr("CUTLASS NVFP4 (Blackwell), ok for TP 1, 2, 4"));
  linear.scheme = Scheme::of_floats("fp8_e4m3");
  linear.activations = ActivationScheme::of_floats("fp8_e4m3");
  linear.in = 24;
  EXPECT_THAT(text("modelopt"), testing::HasSubstr("24 is not a multiple of 16"));
}

}  // namespace
}  // namespace lathe
