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

TEST(Consumers, WhatIsHalfFusedRunsOnlyWhereNothingIsStacked) {
  const auto llama = block(4096, 1024, 14336, {"int", 4, 128, true});
  for (const char* method : {"compressed-tensors", "gptq", "awq"}) {
    for (const ConsumerVerdict& verdict : judge_consumers(method, llama, {32, 8, 128}, "q is not k")) {
      const bool stacks = verdict.consumer != "transformers" && verdict.consumer != "GPTQModel";
      EXPECT_EQ(verdict.problem == "q is not k", stacks && !verdict.kernel.empty()) << verdict.describe();
      EXPECT_TRUE(!stacks || verdict.tensor_parallel.empty()) << verdict.describe();
    }
  }
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
  EXPECT_THAT(
      verdict("compressed-tensors", "vLLM", block(4096, 256, 8192, channel), {32, 2, 128}).tensor_parallel,
      ElementsAre(1, 2, 4, 8));
}

TEST(Consumers, SchemesWithoutAKernelAreNamed) {
  const auto none = verdict("gptq", "vLLM", block(4096, 1024, 14336, {"int", 3, 128, true}), {32, 8, 128});
  EXPECT_THAT(none.tensor_parallel, IsEmpty());
  EXPECT_THAT(
      none.describe(),
      HasSubstr("vLLM: does not read it: model.layers.0.self_attn.q_proj: gptq_marlin has no kernel for "
                "int3 sym g128 (vllm 0.32: auto_gptq.py, TYPE_MAP)"));
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

TEST(Consumers, ZeroPointsOfGptqsFirstVersionAreNotForEveryone) {
  const HeadCounts heads{32, 8, 128};
  const auto asymmetric = block(4096, 1024, 14336, {"int", 4, 128, false});
  EXPECT_THAT(
      verdict("gptq", "GPTQModel", asymmetric, heads).describe(),
      HasSubstr("GPTQModel: does not read it: it takes zero points of version 1 only from files that"));
  EXPECT_THAT(verdict("gptq", "transformers", asymmetric, heads).kernel, "GPTQModel");
  EXPECT_THAT(verdict("gptq", "vLLM", asymmetric, heads).describe(), HasSubstr("vLLM: does not read it"));
  EXPECT_THAT(verdict("gptq-v2", "vLLM", asymmetric, heads).describe(), HasSubstr("vLLM: does not read it"));
  EXPECT_THAT(verdict("gptq", "SGLang", asymmetric, heads).tensor_parallel, ElementsAre(1, 2, 4, 8));
  EXPECT_EQ(verdict("gptq-v2", "GPTQModel", asymmetric, heads).kernel, "its own loader");
  EXPECT_EQ(verdict("gptq", "GPTQModel", block(4096, 1024, 14336, {"int", 4, 128, true}), heads).kernel,
            "its own loader");
}

TEST(Consumers, TensorRtReadsFourSchemesOfCompressedTensors) {
  const HeadCounts heads{32, 8, 128};
  auto linears = block(4096, 1024, 14336, Scheme::of_floats("nvfp4"));
  EXPECT_THAT(verdict("compressed-tensors", "TensorRT-LLM", linears, heads).describe(),
              HasSubstr("does not read it: model.layers.0.self_attn.q_proj: no kernel for nvfp4 g16 ("));
  for (PlannedLinear& planned : linears) planned.activations = ActivationScheme::of_floats("nvfp4");
  EXPECT_THAT(
      verdict("compressed-tensors", "TensorRT-LLM", linears, heads).describe(),
      HasSubstr("TensorRT-LLM: NVFP4 (Blackwell), ok for TP 1, 2, 4, 8 (TensorRT-LLM (2026): models/"));
  EXPECT_THAT(
      verdict("compressed-tensors", "TensorRT-LLM", block(4096, 1024, 14336, {"int", 4, 128, true}), heads)
          .describe(),
      HasSubstr("TensorRT-LLM: does not read it: "));
}

TEST(Consumers, GptqModelReadsAwqAndTransformersNoHqq) {
  const HeadCounts heads{32, 8, 128};
  const Scheme four{"int", 4, 128, false};
  EXPECT_THAT(verdict("awq", "GPTQModel", block(4096, 1024, 14336, four), heads).describe(),
              HasSubstr("GPTQModel: AwqTorchLinear (others on GPUs), ok for TP 1; TP 2 fails"));
  EXPECT_THAT(verdict("awq", "GPTQModel", block(4096, 1024, 14336, {"int", 4, 256, false}), heads).describe(),
              HasSubstr("takes group_size -1, 16, 32, 64, 128, not 256"));
  EXPECT_THAT(verdict("hqq", "transformers", block(4096, 1024, 14336, four), heads).describe(),
              HasSubstr("transformers: does not read it (transformers 5.17: quantizers/quantizer_hqq.py"));
}

TEST(Consumers, QuantisedInputsHaveAKernelOfTheirOwn) {
  auto linears = block(4096, 1024, 14336, {"int", 8, -1, true});
  for (PlannedLinear& planned : linears) planned.activations = ActivationScheme{};
  EXPECT_EQ(verdict("compressed-tensors", "vLLM", linears, {32, 8, 128}).kernel, "CUTLASS int8");
}

TEST(Consumers, EveryRuleHasItsSource) {
  for (const KernelRule& rule : kernel_rules()) {
    EXPECT_THAT(rule.source, testing::MatchesRegex("(vllm 0|TensorRT-LLM|gptqmodel 7|sglang).*: .*"))
        << rule.kernel;
  }
  for (const Reader& reader : readers()) EXPECT_THAT(reader.source, HasSubstr(": ")) << reader.consumer;
}

std::string everything(const char* method, const std::vector<PlannedLinear>& linears,
                       const HeadCounts& heads) {
  std::string all;
  for (const ConsumerVerdict& verdict : judge_consumers(method, linears, heads))
    all += verdict.describe() + "\n";
  return all;
}

TEST(Consumers, EverySchemeOfAMixedModelHasItsOwnKernel) {
  auto mixed = block(4096, 1024, 14336, {"int", 4, 128, true});
  for (PlannedLinear& planned : mixed) {
    if (planned.role != LinearRole::down_proj) continue;
    planned.scheme = {"int", 8, -1, true};
    planned.activations = ActivationScheme{};
  }
  const std::string all = everything("compressed-tensors", mixed, {32, 8, 128});
  EXPECT_THAT(all, HasSubstr("vLLM (int4 sym g128): Marlin, ok for TP 1, 2, 4, 8"));
  EXPECT_THAT(all, HasSubstr("vLLM (int8 sym channel, input int8 sym dynamic per token): CUTLASS int8, ok"));
  EXPECT_THAT(all, testing::Not(HasSubstr("not with")));
  mixed.back().scheme = {"int", 3, 128, true};
  mixed.back().activations = std::nullopt;
  EXPECT_THAT(everything("compressed-tensors", mixed, {32, 8, 128}),
              HasSubstr("vLLM with humming (int3 sym g128): Humming, ok for TP 1, 2"));
  mixed.back().scheme = Scheme::of_floats("fp8_e5m2");
  EXPECT_THAT(
      everything("compressed-tensors", mixed, {32, 8, 128}),
      HasSubstr("vLLM (fp8_e5m2 channel): does not read it: model.layers.0.mlp.down_proj: no kernel"));
}

TEST(Consumers, FourByEightBitsRunOnCpusOrOnHopper) {
  auto llama = block(4096, 1024, 14336, {"int", 4, 128, true});
  for (PlannedLinear& planned : llama) planned.activations = ActivationScheme{};
  const std::string integers = everything("compressed-tensors", llama, {32, 8, 128});
  EXPECT_THAT(integers,
              HasSubstr("vLLM on CPUs: dynamic 4-bit (torch's; KleidiAI's on Arm), ok for TP 1, 2"));
  EXPECT_THAT(integers, HasSubstr("transformers: reads it through compressed-tensors"));
  EXPECT_THAT(integers, testing::Not(HasSubstr("Hopper")));
  EXPECT_THAT(integers, HasSubstr("SGLang: does not read it"));
  for (PlannedLinear& planned : llama) planned.activations = ActivationScheme::of_floats("fp8_e4m3");
  const std::string floats = everything("compressed-tensors", llama, {32, 8, 128});
  EXPECT_THAT(floats, HasSubstr("vLLM on Hopper: CUTLASS W4A8 (bfloat16 models), ok for TP 1, 2"));
  EXPECT_THAT(floats, testing::Not(HasSubstr("vLLM on CPUs")));
  for (PlannedLinear& planned : llama) planned.scheme.group_size = 64;
  EXPECT_THAT(
      everything("compressed-tensors", llama, {32, 8, 128}),
      HasSubstr("vLLM: does not read it: model.layers.0.self_attn.q_proj: CUTLASS W4A8 (bfloat16 models) "
                "takes group_size 128, not 64"));
}

TEST(Consumers, TransformersStacksNoExpertsOfBytes) {
  auto experts = block(4096, 1024, 14336, {"int", 8, -1, true});
  for (PlannedLinear& planned : experts) {
    planned.expert = true;
    planned.activations = ActivationScheme{};
  }
  EXPECT_THAT(everything("compressed-tensors", experts, {32, 8, 128}),
              HasSubstr("transformers: does not read it: transformers 5.17 stacks experts"));
  for (PlannedLinear& planned : experts) planned.activations = std::nullopt;
  EXPECT_THAT(everything("compressed-tensors", experts, {32, 8, 128}),
              HasSubstr("transformers: reads it through compressed-tensors"));
}

TEST(Consumers, BlocksOfRowsAreCutWithTheRows) {
  auto linears = block(4096, 1024, 14336, Scheme::of_floats("fp8_e4m3", 128, 128));
  for (PlannedLinear& planned : linears) {
    planned.activations = ActivationScheme::of_floats("fp8_e4m3");
    planned.activations->per = ActivationScheme::Per::group;
    planned.activations->group_size = 128;
  }
  const auto wide = verdict("compressed-tensors", "vLLM", linears, {32, 8, 128});
  EXPECT_THAT(wide.tensor_parallel, ElementsAre(1, 2, 4, 8)) << wide.describe();
  for (PlannedLinear& planned : linears) {
    if (planned.role == LinearRole::gate_proj || planned.role == LinearRole::up_proj)
      planned.out = 14336 + 128;
    if (planned.role == LinearRole::down_proj) planned.in = 14336 + 128;
  }
  const auto odd = verdict("compressed-tensors", "vLLM", linears, {32, 8, 128});
  EXPECT_THAT(odd.tensor_parallel, ElementsAre(1));
  EXPECT_THAT(odd.problem,
              HasSubstr("TP 2 fails: model.layers.0.mlp.gate_proj: 14464 / 2 is not a multiple of "
                        "128 (output features)"));
  // Unsplit, the last part of a stack may end in the middle of a block.
  linears = {linears[0], linears[1], linears[2]};
  linears[2].out = 1000;
  EXPECT_THAT(verdict("compressed-tensors", "vLLM", linears, {1, 1, 128}).tensor_parallel, ElementsAre(1));
  linears[1].out = 1000;
  EXPECT_THAT(verdict("compressed-tensors", "vLLM", linears, {1, 1, 128}).tensor_parallel, IsEmpty());
}

TEST(Consumers, ExpertsHaveKernelsAndReadersOfTheirOwn) {
  auto linears = block(4096, 1024, 14336, {"int", 4, 128, true});
  for (PlannedLinear& planned : linears) planned.expert = planned.name.find(".mlp.") != std::string::npos;
  const std::string compressed = everything("compressed-tensors", linears, {32, 8, 128});
  EXPECT_THAT(compressed, HasSubstr("vLLM (int4 sym g128, experts): Marlin MoE"));
  EXPECT_THAT(compressed, testing::Not(HasSubstr("Hopper (int4 sym g128, experts)")));
  EXPECT_THAT(compressed, HasSubstr("transformers: reads it through compressed-tensors"));
  const std::string gptq = everything("gptq", linears, {32, 8, 128});
  EXPECT_THAT(gptq, HasSubstr("transformers: does not read it: transformers 5.17 stacks experts"));
  EXPECT_THAT(gptq, HasSubstr("GPTQModel: reads it through its own loader"));
}

TEST(Consumers, SglangTakesActivationOrderAndHasTiles) {
  auto linears = block(4096, 1024, 14336, {"int", 4, 128, true});
  for (PlannedLinear& planned : linears) planned.group_index = true;
  EXPECT_THAT(verdict("gptq", "SGLang", linears, {32, 8, 128}).tensor_parallel, ElementsAre(1, 2, 4, 8));
  EXPECT_THAT(verdict("gptq", "vLLM", linears, {32, 8, 128}).problem, HasSubstr("no activation order"));
  EXPECT_THAT(verdict("awq", "SGLang", block(576, 192, 1536, {"int", 4, 64, false}), {9, 3, 64}).problem,
              HasSubstr("576 is not a multiple of 128 (input features)"));
}

TEST(Consumers, GemvIsReadByTwo) {
  const auto linears = block(4096, 1024, 14336, {"int", 4, 128, false});
  const std::string all = everything("awq-gemv", linears, {32, 8, 128});
  EXPECT_THAT(all, HasSubstr("AutoAWQ: reads it through WQLinear_GEMV"));
  EXPECT_THAT(all, HasSubstr("GPTQModel: AwqGEMVLinear (CUDA), ok for TP 1;"));
  EXPECT_THAT(all, HasSubstr("vLLM: does not read it"));
  EXPECT_THAT(everything("awq-gemv", block(4096, 1024, 14336, {"int", 4, 32, false}), {32, 8, 128}),
              HasSubstr("takes group_size 64, 128, not 32"));
}

TEST(Consumers, TensorRtTakesGroupsOf64And128) {
  const auto said = [&](int64_t group) {
    return verdict("modelopt", "TensorRT-LLM", block(4096, 1024, 14336, {"int", 4, group, true}),
                   {32, 8, 128});
  };
  EXPECT_THAT(said(128).tensor_parallel, ElementsAre(1, 2, 4, 8));
  EXPECT_THAT(said(32).problem, HasSubstr("takes group_size 64, 128, not 32"));
  EXPECT_THAT(
      everything("modelopt", block(4096, 1024, 14336, {"int", 4, 128, true}), {32, 8, 128}),
      HasSubstr("vLLM: does not read it: model.layers.0.self_attn.q_proj: no kernel for int4 sym g128 "
                "(vllm 0.32: quantization/modelopt.py, LINEAR_ALGOS)"));
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

TEST(Consumers, AShareIsOfWholeWords) {
  // 176 / 4 = 44 codes of 4 bits don't fill words of 8; of 8 bits they fill words of 4.
  const auto narrow = [](int bits, bool symmetric) {
    return block(176, 176, 704, {"int", bits, -1, symmetric});
  };
  const HeadCounts heads{4, 4, 44};
  EXPECT_THAT(verdict("awq", "vLLM", narrow(4, false), heads).tensor_parallel, ElementsAre(1));
  EXPECT_THAT(verdict("awq", "vLLM", narrow(4, false), heads).problem,
              HasSubstr("its one group a row is not cut"));
  EXPECT_THAT(verdict("gptq", "vLLM", narrow(4, true), heads).problem,
              HasSubstr("176 / 4 is not a multiple of 8 (codes in a word)"));
  EXPECT_THAT(verdict("gptq", "vLLM", narrow(4, true), heads).tensor_parallel, ElementsAre(1, 2));
  EXPECT_THAT(verdict("gptq", "vLLM", narrow(8, true), heads).tensor_parallel, ElementsAre(1, 2, 4));
  EXPECT_THAT(verdict("compressed-tensors", "vLLM", narrow(4, true), heads).problem,
              HasSubstr("o_proj: 176 / 4 is not a multiple of 8"));
}

TEST(Consumers, SglangsOwnTable) {
  const HeadCounts heads{32, 8, 128};
  const auto floats = [&](const char* type, const std::optional<ActivationScheme>& input) {
    auto linears = block(4096, 1024, 14336, Scheme::of_floats(type));
    for (PlannedLinear& planned : linears) planned.activations = input;
    return linears;
  };
  const auto nvfp4 = ActivationScheme::of_floats("nvfp4");
  EXPECT_EQ(verdict("modelopt", "SGLang", floats("nvfp4", nvfp4), heads).tensor_parallel.size(), 4u);
  EXPECT_EQ(
      verdict("compressed-tensors", "SGLang", floats("nvfp4", std::nullopt), heads).tensor_parallel.size(),
      4u);
  EXPECT_THAT(verdict("compressed-tensors", "SGLang", floats("mxfp4", std::nullopt), heads).describe(),
              HasSubstr("no kernel for mxfp4 g32"));
  EXPECT_THAT(
      verdict("compressed-tensors", "SGLang", floats("mxfp8", ActivationScheme::of_floats("mxfp8")), heads)
          .describe(),
      HasSubstr("no kernel for mxfp8 g32"));
  ActivationScheme token = ActivationScheme::of_floats("fp8_e4m3");
  token.dynamic = true;
  token.per = ActivationScheme::Per::token;
  EXPECT_EQ(verdict("compressed-tensors", "SGLang", floats("fp8_e4m3", token), heads).kernel,
            "CUTLASS FP8 (Ada and newer)");
  EXPECT_THAT(verdict("modelopt", "SGLang", floats("fp8_e4m3", token), heads).describe(),
              HasSubstr("no kernel for fp8_e4m3 channel"));
}

TEST(Consumers, UnusualBitsNeedHumming) {
  const auto three = block(4096, 1024, 14336, {"int", 3, 128, true});
  const HeadCounts heads{32, 8, 128};
  EXPECT_THAT(verdict("compressed-tensors", "vLLM with humming", three, heads).tensor_parallel,
              ElementsAre(1, 2, 4, 8));
  EXPECT_EQ(verdict("compressed-tensors", "vLLM", three, heads).consumer, "");  // not without it
  EXPECT_THAT(verdict("compressed-tensors", "SGLang", three, heads).describe(),
              HasSubstr("SGLang: does not read it: model.layers.0.self_attn.q_proj: Marlin has no kernel"));
}

TEST(Consumers, RotatedInputsAreForVllmOnOneGpuWithoutBias) {
  Scheme scheme = Scheme::of_floats("mxfp4");
  const auto plain = block(4096, 1024, 14336, scheme);
  scheme.hadamard = 32;
  auto rotated = block(4096, 1024, 14336, scheme);
  size_t readers = 0;
  for (const ConsumerVerdict& found : judge_consumers("compressed-tensors", rotated, {32, 8, 128})) {
    if (found.consumer.starts_with("vLLM")) continue;
    EXPECT_EQ(found.kernel, "") << found.describe();
    readers += found.problem.find("reads past transform_config") != std::string::npos ? 1 : 0;
  }
  EXPECT_GE(readers, 2u);  // transformers, SGLang
  const ConsumerVerdict before = verdict("compressed-tensors", "vLLM", plain, {32, 8, 128}),
                        found = verdict("compressed-tensors", "vLLM", rotated, {32, 8, 128});
  EXPECT_THAT(before.tensor_parallel, ElementsAre(1, 2, 4, 8));
  EXPECT_EQ(found.kernel, before.kernel);
  EXPECT_THAT(found.tensor_parallel, ElementsAre(1));
  EXPECT_THAT(found.describe(), HasSubstr("no tensor parallelism where inputs are rotated"));
  rotated[1].bias = true;
  EXPECT_THAT(verdict("compressed-tensors", "vLLM", rotated, {32, 8, 128}).describe(),
              HasSubstr("k_proj: no bias where inputs are rotated"));
}

}  // namespace
}  // namespace lathe
