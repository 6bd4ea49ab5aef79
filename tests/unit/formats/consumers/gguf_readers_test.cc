// Who is said to read which block types of a GGUF file.
#include "formats/consumers/gguf_readers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "formats/consumers/loading.h"

namespace lathe {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::string said(const std::string& consumer, const std::vector<GgufTypeOf>& tensors) {
  for (const ConsumerVerdict& verdict : judge_gguf(tensors))
    if (verdict.consumer == consumer) return verdict.describe();
  return {};
}

TEST(GgufReaders, AnOrdinaryMixIsReadByAllButOne) {
  const std::vector<GgufTypeOf> mix = {{"token_embd.weight", GgmlType::Q6_K},
                                       {"blk.0.attn_q.weight", GgmlType::Q4_K},
                                       {"blk.0.attn_norm.weight", GgmlType::F32}};
  EXPECT_THAT(loading_consumers(judge_gguf(mix)), ElementsAre("SGLang", "llama.cpp", "transformers", "vLLM"));
  EXPECT_THAT(said("TensorRT-LLM", mix), HasSubstr("TensorRT-LLM: does not read it ("));
  EXPECT_THAT(said("vLLM", mix),
              HasSubstr("vLLM: reads it through vllm-gguf-plugin (vllm-gguf-plugin 0.0.5: "));
  EXPECT_THAT(judge_gguf({}), IsEmpty());
}

TEST(GgufReaders, TernaryAndMicroscaledBlocksAreNotForServers) {
  for (const GgmlType type : {GgmlType::TQ1_0, GgmlType::TQ2_0, GgmlType::MXFP4, GgmlType::NVFP4}) {
    const std::vector<GgufTypeOf> file = {{"token_embd.weight", GgmlType::Q4_K},
                                          {"blk.0.ffn_up.weight", type}};
    const std::string why =
        "it has no kernel for " + std::string(traits(type).name) + " ('blk.0.ffn_up.weight')";
    for (const char* consumer : {"vLLM", "SGLang"}) {
      EXPECT_THAT(said(consumer, file),
                  AllOf(HasSubstr(": does not read it: " + why), HasSubstr("DEQUANT_TYPES")))
          << consumer;
    }
    EXPECT_THAT(loading_consumers(judge_gguf(file)), ElementsAre("llama.cpp", "transformers"));
  }
  EXPECT_THAT(loading_consumers(judge_gguf({{"a", GgmlType::Q1_0}})), ElementsAre("llama.cpp"));
}

TEST(GgufReaders, EachTypeIsNamedOnceWithHowManyTensorsHaveIt) {
  const std::string text = said("SGLang", {{"a.weight", GgmlType::TQ2_0},
                                           {"b.weight", GgmlType::MXFP4},
                                           {"c.weight", GgmlType::TQ2_0},
                                           {"d.weight", GgmlType::TQ2_0},
                                           {"e.weight", GgmlType::F16}});
  EXPECT_THAT(text, HasSubstr("no kernel for TQ2_0 ('a.weight' and 2 more) and MXFP4 ('b.weight') ("));
  EXPECT_THAT(text, Not(HasSubstr("F16")));
}

TEST(GgufReaders, LlamaCppReadsEveryTypeAndEveryRowHasItsSource) {
  for (const GgmlTraits& row : ggml_types())
    EXPECT_THAT(loading_consumers(judge_gguf({{"a", row.type}})), Contains("llama.cpp")) << row.name;
  for (const GgufReader& reader : gguf_readers()) {
    EXPECT_THAT(reader.source, HasSubstr(": ")) << reader.consumer;
    EXPECT_EQ(reader.through == nullptr, reader.types.empty()) << reader.consumer;
  }
}

}  // namespace
}  // namespace lathe
