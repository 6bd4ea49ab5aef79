// Mixes: every tensor's type beside what llama-quantize chose, and the branches that its dry runs did not
// reach.
#include "formats/gguf/mix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "lib/base/error.h"

namespace lathe {
namespace {

using enum GgmlType;

/// The models of the dry runs.
const std::map<std::string, MixModel> kModels = {
    {"L32_gqa4", {.layers = 32, .heads = 32, .kv_heads = 8}},
    {"L32_gqa1", {.layers = 32, .heads = 32, .kv_heads = 32}},
    {"L22_gqa4_tied", {.layers = 22, .heads = 32, .kv_heads = 8, .tied_output = true}},
    {"L80_gqa8", {.layers = 80, .heads = 64, .kv_heads = 8}},
    {"L8_moe8", {.layers = 8, .heads = 32, .kv_heads = 8, .experts = 8}},
};

/// "Q6_K*4 Q4_K*2": the types by layer.
std::vector<std::string> expand(const std::string& runs) {
  std::vector<std::string> types;
  std::istringstream words(runs);
  for (std::string word; words >> word;) {
    const size_t star = word.find('*');
    types.insert(types.end(), std::stoul(word.substr(star + 1)), word.substr(0, star));
  }
  return types;
}

MixTensor tensor_of(const std::string& role, int64_t layer) {
  const bool global = role == "output" || role == "token_embd" || role == "output_norm";
  MixTensor tensor{global ? role + ".weight" : "blk." + std::to_string(layer) + "." + role + ".weight"};
  tensor.layer = global ? -1 : layer;
  tensor.rows = role.ends_with("norm") ? 0 : 256;
  tensor.columns = 256;
  tensor.experts = role.ends_with("_exps") ? 8 : 1;
  return tensor;
}

TEST(GgufMixLibrary, TypesAreLlamaQuantizes) {
  std::ifstream file(LATHE_SOURCE_DIR "/tests/golden/gguf/mixes.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  ASSERT_EQ(golden.size(), kModels.size());
  size_t compared = 0;
  for (const auto& [name, mixes] : golden.items()) {
    ASSERT_EQ(mixes.size(), 20);
    for (const auto& [mix, roles] : mixes.items()) {
      for (const auto& [role, runs] : roles.items()) {
        if (role == "ffn_gate_inp") continue;  // left as it was in the file; converters make it F32, so do we
        int64_t layer = 0;
        for (const std::string& type : expand(runs)) {
          const MixTensor tensor = tensor_of(role, layer++);
          EXPECT_EQ(traits(tensor_type(mix, kModels.at(name), tensor)).name, type)
              << name << " " << mix << " " << tensor.name;
          ++compared;
        }
      }
    }
  }
  EXPECT_GT(compared, 20'000);
}

TEST(GgufMix, ImportancesChangeTheFirstDownProjections) {
  const auto type = [](const char* mix, int64_t layer, bool importances) {
    return tensor_type(mix, {.layers = 32, .heads = 32, .kv_heads = 32, .importances = importances},
                       tensor_of("ffn_down", layer));
  };
  EXPECT_EQ(type("Q4_0", 3, true), Q4_1);
  EXPECT_EQ(type("Q4_0", 3, false), Q4_0);
  EXPECT_EQ(type("Q4_0", 4, true), Q4_0);
  EXPECT_EQ(type("Q5_0", 3, true), Q5_1);
  EXPECT_EQ(type("IQ4_XS", 3, true), IQ4_XS);
  EXPECT_EQ(type("IQ4_NL", 3, false), Q5_K);
}

TEST(GgufMix, RowsThatDontDivideFallBack) {
  EXPECT_EQ(fitting_type(Q4_K, 512), Q4_K);
  const std::map<GgmlType, GgmlType> pairs = {{IQ4_XS, IQ4_NL}, {Q2_K, Q4_0},  {Q3_K, Q4_0}, {TQ1_0, Q4_0},
                                              {TQ2_0, Q4_0},    {Q4_K, Q5_0},  {Q5_K, Q5_1}, {Q6_K, Q8_0},
                                              {Q8_0, Q8_0},     {MXFP4, MXFP4}};
  for (const auto& [wanted, type] : pairs) {
    EXPECT_EQ(fitting_type(wanted, 576), type) << traits(wanted).name;
    EXPECT_EQ(fitting_type(wanted, 100), F16) << traits(wanted).name;
  }
  MixTensor output = tensor_of("output", -1);
  output.columns = 576;
  EXPECT_EQ(tensor_type("Q4_K_M", {.layers = 30}, output), Q8_0);
}

TEST(GgufMix, WhatIsNeverCut) {
  const MixModel model{.layers = 4, .heads = 8, .kv_heads = 8};
  for (const char* name : {"blk.0.attn_norm.weight", "blk.0.ffn_gate_inp.weight", "blk.0.attn_q.bias",
                           "rope_freqs", "blk.0.ssm_conv1d.weight"}) {
    MixTensor tensor{name, 0, 256, 256};
    EXPECT_EQ(tensor_type("Q4_K_M", model, tensor), F32) << name;
    EXPECT_EQ(tensor_type("F16", model, tensor), F32) << name;
  }
  EXPECT_EQ(tensor_type("F16", model, tensor_of("attn_q", 0)), F16);
  EXPECT_EQ(tensor_type("BF16", model, tensor_of("output", -1)), BF16);
}

TEST(GgufMix, PlainMxfp4IsMxfp4InDenseModelsToo) {
  const MixModel model{.layers = 4, .heads = 8, .kv_heads = 8};
  EXPECT_EQ(tensor_type("MXFP4", model, tensor_of("ffn_up", 0)), MXFP4);
  EXPECT_EQ(tensor_type("MXFP4", model, tensor_of("output", -1)), Q8_0);
  EXPECT_EQ(tensor_type("MXFP4_MOE", model, tensor_of("ffn_up", 0)), Q8_0);
}

TEST(GgufMix, NamesAndFileTypes) {
  EXPECT_TRUE(known_mix("Q4_K_M"));
  EXPECT_FALSE(known_mix("Q7_K"));
  EXPECT_EQ(find_mix("q4_k")->name, "Q4_K_M");
  EXPECT_EQ(find_mix("Q4_K_M")->file_type, 15);
  EXPECT_EQ(find_mix("Q2_K_S")->file_type, 21);
  for (const GgufMix& mix : gguf_mixes()) EXPECT_EQ(find_mix(mix.name), &mix);
  try {
    tensor_type("Q7_K", {}, tensor_of("attn_q", 0));
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("unknown GGUF type 'Q7_K'; known: F32, F16, Q4_0"));
  }
}

}  // namespace
}  // namespace lathe
