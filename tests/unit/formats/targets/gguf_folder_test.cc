// A GGUF file as a model: what was written comes back, and every field of the header broken in turn.
#include "formats/targets/gguf_folder.h"

#include "formats/targets/gguf_reader.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>

#include "formats/gguf/gguf_file.h"
#include "formats/gguf/gguf_split_writer.h"
#include "formats/gguf/gguf_writer.h"
#include "formats/gguf/model_keys.h"
#include "formats/gguf/tensor_map.h"
#include "lib/base/error.h"
#include "lib/kernels/ggml_quant.h"
#include "lib/tensor/aten.h"
#include "tests/unit/formats/gguf/small_config.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

using nlohmann::json;
using test::TemporaryFolder;
using testing::HasSubstr;

json config_of(const std::string& family) {
  json config = test::small_config(family, 40, 64, 2);
  const bool experts = family == "mixtral" || family == "olmoe" || family.ends_with("_moe");
  if (experts) config.update({{"num_experts", 3}, {"num_experts_per_tok", 2}});
  if (family.ends_with("_moe"))
    config.update({{"moe_intermediate_size", 32}, {"norm_topk_prob", family == "qwen3_moe"}});
  if (family == "qwen2_moe") config["shared_expert_intermediate_size"] = 96;
  if (family == "olmoe") config["num_key_value_heads"] = 4;
  return config;
}

/// A model file before it is written: tests break it.
struct ModelFile {
  ModelGraph graph;
  GgufMetadata keys;
  std::vector<GgufPlan> plans;
  std::map<std::string, at::Tensor> contents;  // FP32, as in the file
  std::map<std::string, at::Tensor> weights;   // by Hugging Face's name, as they were
  std::map<std::string, at::Tensor> blocks;    // Byte [rows, row_bytes], in place of contents

  explicit ModelFile(const std::string& family, GgmlType type = GgmlType::F32)
      : graph(build_graph(parse_model_config(config_of(family), "config.json"))) {
    at::manual_seed(11);
    keys = model_keys(graph, "tiny", *find_mix("F16"), 1000);
    for (const GgufTensorRule& rule : gguf_tensors(graph)) {
      at::Tensor values = at::randn(rule.shape);
      weights[rule.hf] = values;
      if (rule.heads > 0) values = values.index_select(0, interleaved_rows(values.size(0), rule.heads));
      if (rule.plus_one) values = values + 1;
      if (rule.expert > 0) {  // after those before it in its stack
        contents[rule.gguf] = at::cat({contents[rule.gguf], values.unsqueeze(0)});
        continue;
      }
      contents[rule.gguf] = values.view(
          rule.experts > 0 ? std::vector<int64_t>{1, rule.shape[0], rule.shape[1]} : rule.file_shape());
      const bool blocks = rule.is_matrix() && !rule.plain;
      plans.push_back({rule.gguf, blocks ? type : GgmlType::F32, rule.file_shape()});
    }
  }

  GgufValue& key(const std::string& name) {
    for (auto& [key, value] : keys) {
      if (key == name) return value;
    }
    ADD_FAILURE() << name;
    return keys.front().second;
  }
  void drop(const std::string& name) {
    std::erase_if(keys, [&](const auto& entry) { return entry.first == name; });
  }
  GgufPlan& plan(const std::string& name) { return *std::ranges::find(plans, name, &GgufPlan::name); }

  void write(const std::filesystem::path& path) const {
    GgufWriter writer(path, keys, plans);
    for (const GgufPlan& plan : plans) {
      if (blocks.contains(plan.name)) {
        writer.write(plan.name, bytes_of(blocks.at(plan.name)));
        continue;
      }
      const auto found = contents.find(plan.name);
      at::Tensor values = found != contents.end() ? found->second : at::zeros(plan.shape);
      if (values.sizes() != plan.shape) values = at::zeros(plan.shape);
      const at::Tensor bytes = kernels::quantize_ggml(
          plan.name, values.reshape({-1, plan.shape.back()}).contiguous(), plan.type, {});
      writer.write(plan.name, bytes_of(bytes));
    }
    writer.finish();
  }
};

/// Types whose blocks carry over to other formats; with the signs of their scales and every code in use.
TEST(GgufFolder, CodesAndScalesMeanTheBlocksValues) {
  using enum GgmlType;
  const std::map<GgmlType, std::string> expected = {
      {Q4_0, "int4 asym g32"}, {Q5_0, "int5 asym g32"}, {Q8_0, "int8 sym g32"}, {MXFP4, "mxfp4 g32"}};
  for (const auto& [type, scheme] : expected) {
    const TemporaryFolder folder;
    const auto path = folder.path() / "m.gguf";
    ModelFile("llama", type).write(path);
    const ModelFolder model = open_model_folder(path);
    ASSERT_FALSE(model.schemes.empty());
    for (const auto& [linear, declared] : model.schemes) {
      const QuantizedTensor tensor = model.read_quantized(linear);
      EXPECT_EQ(tensor.scheme.describe(), scheme) << linear;
      EXPECT_TRUE(tensor.dequantize().equal(model.weights->load(linear + ".weight"))) << linear;
      EXPECT_TRUE(tensor.scales.gt(0).all().item<bool>());
    }
  }
}

/// Random blocks of NVFP4 for each matrix with as many columns, and one scale for each of a stack; with the
/// codes that ggml takes for 0.
ModelFile nvfp4_file(const std::string& family, int64_t experts) {
  ModelFile file(family);
  const std::string name = experts > 0 ? "blk.1.ffn_down_exps" : "blk.1.ffn_down";
  GgufPlan& plan = file.plan(name + ".weight");
  plan.type = GgmlType::NVFP4;
  const int64_t rows = file.contents.at(plan.name).numel() / 64;
  at::Tensor bytes = at::randint(0, 256, {rows, 36}, at::kByte);
  bytes.slice(1, 0, 4).bitwise_and_(0x7f);
  bytes[0][0] = 0;
  bytes[1][3] = 127;
  file.blocks[plan.name] = bytes;
  const int64_t count = std::max<int64_t>(1, experts);
  file.plans.push_back({name + ".scale", GgmlType::F32, {count}});
  file.contents[name + ".scale"] = at::arange(1, count + 1).to(at::kFloat) / 4;
  return file;
}

TEST(GgufFolder, Nvfp4HasItsScaleBesideIt) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "m.gguf";
  for (const auto& [family, experts] : {std::pair("llama", 0), {"mixtral", 3}}) {
    const ModelFile file = nvfp4_file(family, experts);
    file.write(path);
    const ModelFolder model = open_model_folder(path);
    const at::Tensor& bytes = file.blocks.begin()->second;
    const at::Tensor values = kernels::dequantize_ggml(bytes, GgmlType::NVFP4, 64).view({-1, 32, 64});
    ASSERT_EQ(model.schemes.size(), static_cast<size_t>(std::max(1, experts)));
    int64_t expert = 0;
    for (const auto& [linear, scheme] : model.schemes) {
      EXPECT_EQ(scheme.describe(), "nvfp4 g16");
      const at::Tensor expected = values[expert] * ((static_cast<float>(expert) + 1) / 4);
      EXPECT_TRUE(model.weights->load(linear + ".weight").equal(expected)) << linear;
      const QuantizedTensor tensor = model.read_quantized(linear);
      EXPECT_TRUE(tensor.dequantize().equal(expected)) << linear;
      EXPECT_TRUE(tensor.scales.gt(0).all().item<bool>());
      ++expert;
    }
  }
}

/// The others' line says which tensor, which type and why.
TEST(GgufFolder, BlocksThatMeanMoreAreRefused) {
  using enum GgmlType;
  const std::map<GgmlType, std::string> reasons = {
      {Q4_1, "real minimum"},       {Q5_1, "real minimum"},       {Q2_K, "and so its minimum"},
      {Q4_K, "and so its minimum"}, {Q5_K, "and so its minimum"}, {Q3_K, "more digits than"},
      {Q6_K, "more digits than"},   {IQ4_NL, "uneven levels"},    {IQ4_XS, "uneven levels"},
      {IQ1_S, "a codebook"},        {IQ1_M, "a codebook"},        {IQ2_XXS, "a codebook"},
      {IQ2_XS, "a codebook"},       {IQ2_S, "a codebook"},        {IQ3_XXS, "a codebook"},
      {IQ3_S, "a codebook"},        {Q1_0, "no zero point"}};
  for (const auto& [type, reason] : reasons)
    EXPECT_THAT(gguf_not_carried(type).value_or(""), HasSubstr(reason)) << traits(type).name;
  for (const GgmlType type : {F32, F16, BF16, Q4_0, Q5_0, Q8_0, TQ1_0, TQ2_0, MXFP4, NVFP4})
    EXPECT_EQ(gguf_not_carried(type), std::nullopt) << traits(type).name;
  for (const GgmlType type : {Q4_1, Q5_1, IQ4_NL}) {
    const TemporaryFolder folder;
    const auto path = folder.path() / "m.gguf";
    ModelFile("llama", type).write(path);
    const ModelFolder model = open_model_folder(path);
    EXPECT_TRUE(model.schemes.empty());
    try {
      check_carried(*model.gguf, model.graph);
      ADD_FAILURE() << traits(type).name;
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), HasSubstr(fmt::format("{}: tensor 'blk.0.attn_q.weight' is {}, which ",
                                                      path.string(), traits(type).name)));
      EXPECT_THAT(error.what(), HasSubstr(reasons.at(type)));
      EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos);
    }
  }
}

class GgufFolderFamily : public testing::TestWithParam<std::string> {};

TEST_P(GgufFolderFamily, WhatWasWrittenComesBack) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "m.gguf";
  const ModelFile file(GetParam());
  file.write(path);
  const ModelFolder model = open_model_folder(path);
  const std::string expected = GetParam() == "mistral" ? "llama" : GetParam();
  EXPECT_EQ(model.graph.config.model_type, expected);
  EXPECT_EQ(model.graph.config.rms_norm_eps, 1e-5);
  EXPECT_EQ(model.graph.config.attention_scale, file.graph.config.attention_scale);
  EXPECT_EQ(model.graph.config.tie_word_embeddings, file.graph.config.tie_word_embeddings);
  EXPECT_FALSE(model.quantized);
  for (const auto& [name, weight] : file.weights) {
    EXPECT_TRUE(model.weights->load(name).allclose(weight, 0, 1e-6)) << name;
    if (weight.dim() != 2) continue;
    const at::Tensor rows = at::tensor({3, 0, 13}, at::kLong).remainder(weight.size(0));
    EXPECT_TRUE(model.weights->load_rows(name, rows).equal(weight.index_select(0, rows))) << name;
    const TensorView view = model.checkpoint->view(name);
    EXPECT_TRUE(borrow(view).to(at::kFloat).allclose(weight, 1e-3, 1e-3)) << name;
  }
  // The same file is what its folder means.
  EXPECT_EQ(open_model_folder(folder.path()).graph.config.hidden_size, 32);
}

INSTANTIATE_TEST_SUITE_P(All, GgufFolderFamily,
                         testing::Values("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text",
                                         "phi3", "mixtral", "qwen2_moe", "qwen3_moe", "olmoe"));

TEST(GgufFolder, BlocksAreDequantised) {
  const TemporaryFolder folder;
  const ModelFile file("llama", GgmlType::Q8_0);
  file.write(folder.path() / "m.gguf");
  const ModelFolder model = open_model_folder(folder.path() / "m.gguf");
  EXPECT_EQ(model.graph.config.dtype, DType::F16);
  for (const auto& [name, weight] : file.weights)
    EXPECT_TRUE(model.weights->load(name).allclose(weight, 0, 0.02)) << name;
}

TEST(GgufFolder, RopeScalingComesBack) {
  const TemporaryFolder folder;
  ModelFile file("llama");
  file.keys.emplace_back("llama.rope.scaling.type", std::string("linear"));
  file.keys.emplace_back("llama.rope.scaling.factor", 4.0f);
  file.write(folder.path() / "linear.gguf");
  const RopeConfig linear = open_model_folder(folder.path() / "linear.gguf").graph.config.rope;
  EXPECT_EQ(linear.type, RopeConfig::Type::linear);
  EXPECT_EQ(linear.factor, 4);

  ModelFile stretched("llama");
  RopeConfig rope;
  rope.type = RopeConfig::Type::llama3;
  rope.theta = 500000;
  rope.factor = 32;
  rope.rotary_dim = 8;
  rope.original_max_position = 8192;
  stretched.key("llama.rope.freq_base") = 500000.0f;
  stretched.plans.push_back({"rope_freqs.weight", GgmlType::F32, {4}});
  stretched.contents["rope_freqs.weight"] = rope_divisors(rope, "rope_freqs.weight");
  stretched.write(folder.path() / "llama3.gguf");
  const RopeConfig llama3 = open_model_folder(folder.path() / "llama3.gguf").graph.config.rope;
  EXPECT_EQ(llama3.type, RopeConfig::Type::llama3);
  EXPECT_EQ(llama3.factor, 32);
  EXPECT_EQ(llama3.original_max_position, 8192);
  stretched.contents["rope_freqs.weight"] = at::tensor({1.0f, 1.5f, 2.0f, 7.0f});
  stretched.write(folder.path() / "other.gguf");
  const RopeConfig other = open_model_folder(folder.path() / "other.gguf").graph.config.rope;
  EXPECT_EQ(other.type, RopeConfig::Type::longrope);
  EXPECT_EQ(other.long_factor, (std::vector<double>{1, 1.5, 2, 7}));
}

/// What opening the file, and reading every weight after it, has to say; "" for nothing.
std::string error_of(const std::filesystem::path& path) {
  try {
    const ModelFolder model = open_model_folder(path);
    for (const auto& [name, info] : model.checkpoint->tensors()) model.weights->load(name);
  } catch (const UserError& error) {
    const std::string message = error.what();
    EXPECT_THAT(message, HasSubstr(path.filename().string())) << "the message names no file";
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }
  return "";
}

struct Broken {
  std::string what;
  std::function<void(ModelFile&)> change;
  std::string message;
};

std::vector<Broken> broken_models() {
  const auto set = [](const std::string& key, GgufValue value) {
    return [=](ModelFile& file) { file.key(key) = value; };
  };
  const auto drop = [](const std::string& key) { return [=](ModelFile& file) { file.drop(key); }; };
  const auto add = [](const std::string& key, GgufValue value) {
    return [=](ModelFile& file) { file.keys.emplace_back(key, value); };
  };
  const auto remove = [](const std::string& tensor) {
    return [=](ModelFile& file) {
      std::erase_if(file.plans, [&](const GgufPlan& plan) { return plan.name == tensor; });
    };
  };
  const auto shape = [](const std::string& tensor, std::vector<int64_t> sizes) {
    return [=](ModelFile& file) { file.plan(tensor).shape = sizes; };
  };
  std::vector<Broken> rows = {
      {"no architecture", drop("general.architecture"), "general.architecture': expected a name"},
      {"architecture of another type", set("general.architecture", uint32_t{3}),
       "expected a string, found u32"},
      {"unknown architecture", set("general.architecture", std::string("rwkv7")),
       "expected llama, qwen2, qwen2moe, qwen3"},
      {"empty architecture", set("general.architecture", std::string()), "expected a name"},
      {"experts without their use", add("llama.expert_count", uint32_t{8}), "expert_used_count"},
      {"experts of none", add("llama.expert_count", uint32_t{0}), "expected a whole number above 0"},
      {"experts without tensors",
       [](ModelFile& file) {
         file.keys.emplace_back("llama.expert_count", uint32_t{4});
         file.keys.emplace_back("llama.expert_used_count", uint32_t{2});
       },
       "'blk.0.ffn_gate_inp.weight' is missing"},
      {"more experts used than there are",
       [](ModelFile& file) {
         file.keys.emplace_back("llama.expert_count", uint32_t{2});
         file.keys.emplace_back("llama.expert_used_count", uint32_t{3});
       },
       "num_experts_per_tok"},
      {"one list of LongRoPE's",
       [](ModelFile& file) {
         file.plans.push_back({"rope_factors_long.weight", GgmlType::F32, {4}});
       },
       "found one of them"},
      {"part of a split", add("split.count", uint16_t{2}), "'split.no' is missing"},
      {"split count a text", add("split.count", std::string("2")), "split.count': expected a whole number"},
      {"no embedding", remove("token_embd.weight"), "'token_embd.weight': expected a matrix, found none"},
      {"embedding a vector", shape("token_embd.weight", {40}), "expected a matrix"},
      {"no norm", remove("blk.1.ffn_norm.weight"), "'blk.1.ffn_norm.weight' is missing: expected [32]"},
      {"no q", remove("blk.0.attn_q.weight"), "'blk.0.attn_q.weight' is missing"},
      {"no output norm", remove("output_norm.weight"), "'output_norm.weight' is missing"},
      {"q of other rows", shape("blk.0.attn_q.weight", {64, 32}), "keys imply [32, 32], found [64, 32]"},
      {"k of other columns", shape("blk.0.attn_k.weight", {16, 64}), "keys imply [16, 32], found [16, 64]"},
      {"down a cube", shape("blk.1.ffn_down.weight", {2, 16, 64}), "keys imply [32, 64], found [2, 16, 64]"},
      {"norm too short", shape("blk.0.attn_norm.weight", {31}), "keys imply [32], found [31]"},
      {"embedding of other width", shape("token_embd.weight", {40, 64}),
       "keys imply [40, 32], found [40, 64]"},
      {"output of other rows", shape("output.weight", {39, 32}), "keys imply [40, 32], found [39, 32]"},
      {"rope scaling of a new kind", add("llama.rope.scaling.type", std::string("magic")),
       "expected none, linear or yarn"},
      {"rope scaling without factor", add("llama.rope.scaling.type", std::string("linear")),
       "rope.scaling.factor': expected a finite f32, found none"},
      {"yarn without length",
       [](ModelFile& file) {
         file.keys.emplace_back("llama.rope.scaling.type", std::string("yarn"));
         file.keys.emplace_back("llama.rope.scaling.factor", 2.0f);
       },
       "original_context_length': expected a whole number above 0, found none"},
      {"rope divisors of another type",
       [](ModelFile& file) {
         file.plans.push_back({"rope_freqs.weight", GgmlType::F16, {4}});
       },
       "'rope_freqs.weight': expected F32, found F16"},
      {"rope divisor 0",
       [](ModelFile& file) {
         file.plans.push_back({"rope_freqs.weight", GgmlType::F32, {4}});
       },
       "'rope_freqs.weight': expected numbers above 0"},
      {"too few rope divisors",
       [](ModelFile& file) {
         file.plans.push_back({"rope_freqs.weight", GgmlType::F32, {3}});
         file.contents["rope_freqs.weight"] = at::tensor({1.0f, 2.0f, 5.0f});
       },
       "short_factor"},
      {"heads that don't divide", set("llama.attention.head_count", uint32_t{5}), "num_key_value_heads"},
      {"more kv heads than heads", set("llama.attention.head_count_kv", uint32_t{8}), "num_key_value_heads"},
      {"kv heads by layer", set("llama.attention.head_count_kv", GgufArray(std::vector<int32_t>{2, 2})),
       "expected a whole number above 0, found array"},
      {"odd head", set("llama.attention.key_length", uint32_t{7}), "head_dim"},
      {"too many layers", set("llama.block_count", uint32_t{1u << 17}), "block_count: expected at most"},
      {"one layer more", set("llama.block_count", uint32_t{3}), "'blk.2.attn_norm.weight' is missing"},
      {"hidden of no whole heads",
       [](ModelFile& file) {
         file.drop("llama.attention.key_length");
         file.key("llama.embedding_length") = uint32_t{33};
       },
       "embedding_length: expected a multiple of 4 heads"},
      {"eps above 1", set("llama.attention.layer_norm_rms_epsilon", 2.0f), "rms_norm_eps"},
      {"eps infinite", set("llama.attention.layer_norm_rms_epsilon", std::numeric_limits<float>::infinity()),
       "expected a finite f32"},
      {"theta not a number", set("llama.rope.freq_base", std::nanf("")), "expected a finite f32"},
      {"theta below 1", set("llama.rope.freq_base", 0.5f), "rope_theta"},
      {"hidden larger than any", set("llama.embedding_length", uint32_t{1u << 31}), "hidden_size"},
  };
  for (const char* key :
       {"block_count", "embedding_length", "feed_forward_length", "attention.head_count", "context_length"}) {
    const std::string name = std::string("llama.") + key;
    rows.push_back({name + " missing", drop(name), key});
    rows.push_back({name + " 0", set(name, uint32_t{0}), "expected a whole number above 0, found u32 '0'"});
    rows.push_back(
        {name + " negative", set(name, int32_t{-4}), "expected a whole number above 0, found i32 '-4'"});
    rows.push_back(
        {name + " a text", set(name, std::string("4")), "expected a whole number above 0, found string"});
    rows.push_back({name + " a fraction", set(name, 4.5f), "expected a whole number above 0, found f32"});
    rows.push_back(
        {name + " endless", set(name, uint64_t{1} << 62), "expected a whole number above 0, found u64"});
  }
  for (const char* key : {"attention.layer_norm_rms_epsilon", "rope.freq_base"}) {
    const std::string name = std::string("llama.") + key;
    rows.push_back({name + " a whole number", set(name, uint32_t{1}), "expected a finite f32, found u32"});
    rows.push_back({name + " a text", set(name, std::string("x")), "expected a finite f32, found string"});
    rows.push_back({name + " double", set(name, 1e-5), "expected a finite f32, found f64"});
  }
  rows.push_back({"eps missing", drop("llama.attention.layer_norm_rms_epsilon"),
                  "layer_norm_rms_epsilon': expected a finite f32, found none"});
  return rows;
}

TEST(GgufFolder, BrokenScalesOfNvfp4) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "broken.gguf";
  const std::string scale = "blk.1.ffn_down.scale";
  const auto line = [&](const std::function<void(ModelFile&)>& change) {
    ModelFile file = nvfp4_file("llama", 0);
    change(file);
    file.write(path);
    return error_of(path);
  };
  ASSERT_EQ(line([](ModelFile&) {}), "");
  for (const float value : {0.0f, -1.0f, NAN, INFINITY})
    EXPECT_THAT(line([&](ModelFile& file) { file.blocks[scale] = at::full({1}, value).view(at::kByte); }),
                HasSubstr("tensor 'blk.1.ffn_down.scale': the scale at [0] is"));
  ModelFile negative = nvfp4_file("llama", 0);
  negative.blocks.begin()->second[3][2] = 255;
  negative.write(path);
  EXPECT_THAT(
      [&] { open_model_folder(path).read_quantized("model.layers.1.mlp.down_proj"); },
      testing::ThrowsMessage<UserError>(HasSubstr("'blk.1.ffn_down.weight': the scale of group 14 is NaN")));
  EXPECT_THAT(line([&](ModelFile& file) { file.plan(scale).shape = {2}; }),
              HasSubstr("tensor 'blk.1.ffn_down.scale': expected F32 [1], found F32 [2]"));
  ModelFile other("llama", GgmlType::Q4_0);
  other.plans.push_back({scale, GgmlType::F32, {1}});
  other.contents[scale] = at::full({1}, 0.5f);
  other.write(path);
  EXPECT_THAT([&] { open_model_folder(path).read_quantized("model.layers.1.mlp.down_proj"); },
              testing::ThrowsMessage<UserError>(HasSubstr("has a scale of its own beside it, 0.5")));
  EXPECT_TRUE(open_model_folder(path)
                  .weights->load("model.layers.1.mlp.down_proj.weight")
                  .allclose(other.weights.at("model.layers.1.mlp.down_proj.weight") / 2, 0, 0.3));
  EXPECT_THAT(line([&](ModelFile& file) { file.plan(scale).type = GgmlType::F16; }),
              HasSubstr("expected F32 [1], found F16 [1]"));
}

TEST(GgufFolder, BrokenModels) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "broken.gguf";
  const std::vector<Broken> rows = broken_models();
  for (const Broken& row : rows) {
    ModelFile file("llama");
    row.change(file);
    file.write(path);
    EXPECT_THAT(error_of(path), HasSubstr(row.message)) << row.what;
  }
  EXPECT_GE(rows.size(), 60u);
}

std::string bytes_in(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void put(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

/// Every fourth byte of the header in turn: a file that still means something, or one line; never anything
/// else.
TEST(GgufFolder, BytesOfTheHeaderBroken) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "m.gguf", broken = folder.path() / "broken.gguf";
  const ModelFile file("llama");
  file.write(path);
  const std::string whole = bytes_in(path);
  const size_t header = format_gguf_header(file.keys, file.plans).size();
  int refused = 0;
  for (size_t i = 0; i < header; i += 4) {
    std::string bytes = whole;
    // Turns: counts become huge, or off by one; types others; texts no longer UTF-8, or other names.
    bytes[i] = static_cast<char>(static_cast<unsigned char>(whole[i]) ^ (i % 8 == 0 ? 0xFFu : 0x01u));
    put(broken, bytes);
    refused += error_of(broken).empty() ? 0 : 1;
  }
  EXPECT_GT(refused, static_cast<int>(header) / 8) << "of " << header << " bytes";
}

TEST(GgufFolder, CutShort) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "m.gguf", broken = folder.path() / "broken.gguf";
  ModelFile("llama").write(path);
  const std::string whole = bytes_in(path);
  for (size_t length = 0; length < whole.size() - 32; length += length < 3000 ? 13 : 4001) {
    put(broken, whole.substr(0, length));
    EXPECT_NE(error_of(broken), "") << length;
  }
}

TEST(GgufFolder, SeveralFilesInAFolder) {
  const TemporaryFolder folder;
  ModelFile("llama").write(folder.path() / "m.gguf");
  ModelFile("llama").write(folder.path() / "n.gguf");
  EXPECT_THAT(error_of(folder.path()), HasSubstr("holds several GGUF files (m.gguf and n.gguf)"));
}

/// A model in parts, and its parts' names.
std::vector<std::filesystem::path> write_parts(const ModelFile& file, const std::filesystem::path& folder) {
  GgufSplitWriter writer(folder, "m", file.keys, file.plans, 6000);
  for (const GgufPlan& plan : file.plans)
    writer.write(plan.name, bytes_of(file.contents.at(plan.name).contiguous()));
  writer.finish();
  return GgufFile::open(writer.path()).parts();
}

TEST(GgufFolder, PartsAreOneModel) {
  const TemporaryFolder folder;
  const ModelFile file("mixtral");
  const auto parts = write_parts(file, folder.path());
  ASSERT_GT(parts.size(), 2u);
  EXPECT_EQ(parts[1].filename(), fmt::format("m-00002-of-{:05}.gguf", parts.size()));
  for (const auto& path : {folder.path(), parts.front()}) {
    const ModelFolder model = open_model_folder(path);
    for (const auto& [name, weight] : file.weights)
      EXPECT_TRUE(model.weights->load(name).equal(weight)) << name;
  }
  EXPECT_THAT(error_of(parts[1]), HasSubstr("name the first, m-00001-of-"));
}

TEST(GgufFolder, BrokenParts) {
  const ModelFile file("llama");
  const auto broken = [&](const std::function<void(const std::vector<std::filesystem::path>&)>& change) {
    const TemporaryFolder folder;
    const auto parts = write_parts(file, folder.path());
    change(parts);
    return error_of(folder.path());
  };
  const auto replace = [](const std::filesystem::path& path, const std::string& key, size_t after,
                          char value) {
    std::string bytes = bytes_in(path);
    bytes[bytes.find(key) + key.size() + 4 + after] = value;
    put(path, bytes);
  };
  EXPECT_THAT(broken([](const auto& parts) { std::filesystem::remove(parts[1]); }),
              HasSubstr("is missing: part 2"));
  EXPECT_THAT(broken([](const auto& parts) { std::filesystem::remove(parts[0]); }),
              HasSubstr("name the first"));
  EXPECT_THAT(broken([](const auto& parts) {
                std::filesystem::copy_file(parts[1], parts[2],
                                           std::filesystem::copy_options::overwrite_existing);
              }),
              HasSubstr("expected part 3 of"));
  EXPECT_THAT(broken([](const auto& parts) { ModelFile("llama").write(parts[1]); }),
              HasSubstr("found a whole file"));
  EXPECT_THAT(broken([&](const auto& parts) { replace(parts[0], "split.count", 0, 3); }),
              HasSubstr("should end with"));
  EXPECT_THAT(broken([&](const auto& parts) { replace(parts[0], "split.no", 0, 1); }),
              HasSubstr("should end with"));
  EXPECT_THAT(broken([&](const auto& parts) { replace(parts[0], "split.no", 1, 9); }),
              HasSubstr("'split.no': expected"));
  EXPECT_THAT(broken([&](const auto& parts) { replace(parts[1], "split.no", 0, 0); }),
              HasSubstr("expected part 2 of"));
  EXPECT_THAT(broken([&](const auto& parts) { replace(parts[0], "split.tensors.count", 0, 1); }),
              HasSubstr("expected part 2 of"));
  EXPECT_THAT(broken([&](const auto& parts) {
                for (const auto& part : parts) replace(part, "split.tensors.count", 0, 99);
              }),
              HasSubstr("split.tensors.count: expected 99, found 21"));
  EXPECT_THAT(broken([](const auto& parts) { put(parts[1], bytes_in(parts[1]).substr(0, 40)); }),
              HasSubstr("m-00002-of-"));
}

}  // namespace
}  // namespace lathe
