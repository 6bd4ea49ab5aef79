// bitsandbytes, AQLM, VPTQ, QTIP and QuIP#: what the peers' own decoders make of codes
// (tests/golden/codebooks), and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/targets/qtip_reader.h"
#include "formats/targets/quip_reader.h"
#include "lib/numeric/hadamard.h"
#include "tests/unit/formats/fixtures/fixture_model.h"

namespace lathe {
namespace {

using test::Artefact;
using test::Json;
using test::kModule;
using test::read_stored;
using test::refusal_of;
using test::Tensors;
using testing::AllOf;
using testing::HasSubstr;

Tensors golden(const char* name) {
  return test::read_safetensors(std::string(LATHE_SOURCE_DIR) + "/tests/golden/codebooks/" + name +
                                ".safetensors");
}

/// Those whose names begin so, without that.
Tensors some(const Tensors& all, const std::string& prefix) {
  Tensors result;
  for (const auto& [name, tensor] : all)
    if (name.starts_with(prefix)) result[name.substr(prefix.size())] = tensor;
  return result;
}

at::Tensor take(Tensors& tensors, const char* name) { return tensors.extract(name).mapped(); }

struct Refusal {
  const char* what;
  std::function<void(Json& config, Tensors& tensors)> damage;
  std::string text;
};

void expect_refusals(int64_t out, int64_t in, const Json& config, const Tensors& tensors,
                     const std::vector<Refusal>& table) {
  ASSERT_EQ(refusal_of(out, in, config, tensors), "");
  for (const Refusal& row : table) {
    Json changed = config;
    Tensors damaged = tensors;
    row.damage(changed, damaged);
    const std::string found = refusal_of(out, in, changed, damaged);
    EXPECT_THAT(found, HasSubstr(row.text)) << row.what;
    EXPECT_EQ(found.find('\n'), std::string::npos) << row.what;
  }
}

Refusal config_key(const char* key, Json value, std::string text) {
  return {key, [=](Json& config, Tensors&) { config[key] = value; }, std::move(text)};
}
Refusal missing(const char* name) {
  return {name, [=](Json&, Tensors& tensors) { tensors.erase(name); },
          fmt::format("tensor '{}.{}' is missing", kModule, name)};
}
Refusal tensor(const char* name, at::Tensor value, std::string text) {
  return {name, [=](Json&, Tensors& tensors) { tensors[name] = value; }, std::move(text)};
}

// --- bitsandbytes

Json bitsandbytes_config(const char* type) {
  return {{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}, {"bnb_4bit_quant_type", type}};
}

constexpr const char* kState = "weight.quant_state.bitsandbytes__nf4";

at::Tensor bytes_of(const std::string& text) {
  const at::Tensor bytes = at::empty({static_cast<int64_t>(text.size())}, at::kByte);
  std::ranges::copy(text, bytes.data_ptr<uint8_t>());
  return bytes;
}

TEST(BitsandbytesLibrary, EveryCodeIsReadAsTheLibraryDoes) {
  const Tensors all = golden("bitsandbytes");
  for (const auto& [name, type] : {std::pair{"nested.", "nf4"}, {"plain.", "nf4"}, {"fp4.", "fp4"}}) {
    Tensors tensors = some(all, name);
    const at::Tensor values = take(tensors, "values"), bytes = tensors.at("weight");
    const at::Tensor codes = at::cat({bytes.bitwise_right_shift(4), bytes.bitwise_and(15)});
    EXPECT_EQ(codes.to(at::kInt).flatten().bincount().gt(0).sum().item<int64_t>(), 16);
    const QuantizedTensor found =
        read_stored(values.size(0), values.size(1), bitsandbytes_config(type), tensors);
    EXPECT_TRUE(found.dequantize().equal(values)) << name;
    EXPECT_EQ(found.scheme.describe(), std::string(type) == "nf4" ? "NF4 g64" : "FP4 g64");
  }
}

TEST(Bitsandbytes, Refusals) {
  Tensors tensors = some(golden("bitsandbytes"), "plain.");
  tensors.erase("values");
  const auto state = [](const char* text, std::string refusal) {
    return tensor(kState, bytes_of(text), std::move(refusal));
  };
  at::Tensor infinite = tensors.at("weight.absmax").clone();
  infinite[3] = INFINITY;
  expect_refusals(
      8, 40, bitsandbytes_config("nf4"), tensors,
      {config_key("load_in_8bit", true, "load_in_8bit: expected false (LLM.int8 is not read)"),
       config_key("load_in_4bit", false, "load_in_4bit: expected true"),
       config_key("bnb_4bit_quant_type", "fp4", "quant_state.bitsandbytes__fp4' is missing"),
       config_key("bnb_4bit_quant_storage", "bfloat16", "bnb_4bit_quant_storage: expected uint8"),
       config_key("bnb_4bit_zero", 1, "bnb_4bit_zero"),
       missing("weight.absmax"),
       missing("weight.quant_map"),
       missing(kState),
       {"weight", [](Json&, Tensors& t) { t.erase("weight"); }, "gate_proj.weight' is missing"},
       tensor("weight", at::zeros({159, 1}, at::kByte), "expected U8 [160, 1], found U8 [159, 1]"),
       tensor("weight.absmax", at::zeros({5}, at::kByte), "expected F32 [5], found U8 [5]"),
       tensor("weight.absmax", infinite, "weight.absmax"),
       tensor("weight.nested_absmax", at::zeros({1}), "not expected beside a linear stored as NF4 g64"),
       state("{", "quant_state"),
       state(R"({"quant_type": "fp4", "blocksize": 64, "shape": [8, 40]})", "quant_type: expected nf4"),
       state(R"({"quant_type": "nf4", "blocksize": 0, "shape": [8, 40]})", "blocksize: expected"),
       state(R"({"quant_type": "nf4", "blocksize": 64, "shape": [40, 8]})", "shape: expected [8,40]"),
       state(R"({"quant_type": "nf4", "blocksize": 64, "shape": [8, 40], "nested_blocksize": 256})",
             "nested_offset"),
       state(R"({"quant_type": "nf4", "blocksize": 64, "shape": [8, 40], "more": 1})", "more")});
}

// --- BitNet

Json bitnet_config() { return {{"quant_method", "bitnet"}, {"linear_class", "autobitlinear"}}; }

TEST(Bitnet, NumbersAreReadToo) {
  const at::Tensor numbers = at::randint(-1, 2, {16, 64}).to(at::kHalf);
  const Tensors tensors = {{"weight", numbers}, {"weight_scale", at::full({1}, 0.5, at::kHalf)}};
  EXPECT_TRUE(read_stored(16, 64, bitnet_config(), tensors).dequantize().equal(numbers.to(at::kFloat) * 0.5));
}

TEST(Bitnet, Refusals) {
  const Tensors tensors = {{"weight", at::randint(0, 3, {4, 64}).mul(85).to(at::kByte)},
                           {"weight_scale", at::full({1}, 0.5, at::kHalf)}};
  const at::Tensor three = at::zeros({4, 64}, at::kByte).fill_(0x30);
  expect_refusals(
      16, 64, bitnet_config(), tensors,
      {missing("weight_scale"),
       {"weight", [](Json&, Tensors& t) { t.erase("weight"); }, "gate_proj.weight' is missing"},
       tensor("weight", three, "the weight at [8, 0] (of the unpacked matrix) is none of -1, 0 and 1"),
       tensor("weight", at::full({16, 64}, 0.5, at::kHalf), "is none of -1, 0 and 1"),
       tensor("weight", at::zeros({4, 32}, at::kByte), "expected U8 [4, 64], found U8 [4, 32]"),
       tensor("weight_scale", at::zeros({1}, at::kHalf), "the scale at [0] is 0: expected a positive number"),
       tensor("weight_scale", at::ones({2}, at::kHalf), "expected F16 [1], found F16 [2]"),
       tensor("rms_norm", at::ones({64}, at::kHalf),
              "not expected beside a linear stored as int2 sym channel"),
       config_key("linear_class", "linear", "linear_class: expected bitlinear or autobitlinear"),
       config_key("quantization_mode", "online", "quantization_mode: expected offline, found 'online'"),
       config_key("use_rms_norm", true, "use_rms_norm: expected false"),
       config_key("bits", 2, "unknown key 'bits'")});
  EXPECT_THAT(refusal_of(18, 64, bitnet_config(), tensors), HasSubstr("has 18 output features: four share"));
}

// --- AQLM

Json aqlm_config(const Tensors& tensors) {
  const auto books = tensors.at("codebooks").sizes();
  return {{"quant_method", "aqlm"},     {"in_group_size", books[3]},
          {"out_group_size", books[2]}, {"num_codebooks", books[0]},
          {"nbits_per_codebook", 6},    {"linear_weights_not_to_quantize", Json::array()}};
}

TEST(AqlmLibrary, VectorsOfSeveralOutputsAreReadAsTheLibraryDoes) {
  Tensors tensors = golden("aqlm");
  const at::Tensor values = take(tensors, "values");
  const QuantizedTensor read = read_stored(values.size(0), values.size(1), aqlm_config(tensors), tensors);
  EXPECT_EQ(read.scheme.describe(), "AQLM 3x6 of 8");
  EXPECT_TRUE(at::allclose(read.dequantize(), values, 1e-6, 1e-7));
}

TEST(Aqlm, Refusals) {
  Tensors tensors = golden("aqlm");
  const at::Tensor values = take(tensors, "values");
  const auto bad = [&](int64_t value) {
    at::Tensor codes = tensors.at("codes").clone();
    codes[2][3][1] = value;
    return codes;
  };
  at::Tensor infinite = tensors.at("codebooks").clone();
  infinite[1][7][0][2] = INFINITY;
  expect_refusals(
      values.size(0), values.size(1), aqlm_config(tensors), tensors,
      {missing("codes"), missing("codebooks"), missing("scales"),
       tensor("codes", bad(32), "gate_proj.codes': the code at [2, 3, 1] is 32: expected -32 to 31"),
       tensor("codes", bad(-33), "the code at [2, 3, 1] is -33: expected -32 to 31"),
       tensor("codes", tensors.at("codes").to(at::kShort), "expected I8 [6, 5, 3], found I16 [6, 5, 3]"),
       tensor("codebooks", infinite, "codebooks': the value at [1, 7, 0, 2] is infinite"),
       tensor("scales", at::ones({6, 1}, at::kHalf), "expected F16 [6, 1, 1, 1], found F16 [6, 1]"),
       config_key("num_codebooks", 2, "expected I8 [6, 5, 2], found I8 [6, 5, 3]"),
       config_key("nbits_per_codebook", 17, "nbits_per_codebook: expected 1 to 16, found '17'"),
       config_key("in_group_size", 3, "can't be stored as AQLM 3x6 of 6: groups of 2 outputs and 3 inputs"),
       config_key("linear_weights_not_to_quantize", "lm_head", "expected a list of names"),
       config_key("beam_size", 1, "unknown key 'beam_size'")});
}

// --- VPTQ

Json vptq_layer(bool full, int64_t in) {
  return {{"vector_lens", {full ? 6 : -1, 8}},
          {"num_centroids", {full ? 50 : -1, 64}},
          {"num_res_centroids", {-1, full ? 16 : -1}},
          {"group_num", full ? 2 : 1},
          {"group_size", full ? 18 : in},
          {"outlier_size", full ? 4 : 0},
          {"enable_norm", full},
          {"enable_perm", full},
          {"indices_as_float", false},
          {"is_indice_packed", true},
          {"in_features", in},
          {"bias", false}};
}
Json vptq_config(Json layer) { return {{"quant_method", "vptq"}, {"config_for_layers", {{kModule, layer}}}}; }

TEST(VptqLibrary, EveryPartIsReadAsTheLibraryDoes) {
  for (const bool full : {false, true}) {
    Tensors tensors = some(golden("vptq"), full ? "full." : "plain.");
    const at::Tensor values = take(tensors, "values");
    const QuantizedTensor read =
        read_stored(values.size(0), values.size(1), vptq_config(vptq_layer(full, values.size(1))), tensors);
    EXPECT_EQ(read.scheme.describe(), full ? "VPTQ 64+16 of 8, 2 groups, 4 outlier inputs" : "VPTQ 64 of 8");
    EXPECT_TRUE(at::allclose(read.dequantize(), values, 1e-6, 1e-7)) << full;
  }
}

TEST(Vptq, LayersMayShareTheirDescription) {
  Tensors tensors = some(golden("vptq"), "plain.");
  const at::Tensor values = take(tensors, "values");
  const Json config = {{"quant_method", "vptq"},
                       {"shared_layer_config", {{"gate_proj", vptq_layer(false, values.size(1))}}},
                       {"modules_to_not_convert", {"lm_head"}},
                       {"enable_proxy_error", false}};
  EXPECT_TRUE(at::allclose(read_stored(values.size(0), values.size(1), config, tensors).dequantize(), values,
                           1e-6, 1e-7));
}

TEST(Vptq, Refusals) {
  Tensors tensors = some(golden("vptq"), "full.");
  const at::Tensor values = take(tensors, "values");
  const auto layer = [&](const char* key, Json value, std::string text) {
    return Refusal{key, [=](Json& config, Tensors&) { config["config_for_layers"][kModule][key] = value; },
                   std::move(text)};
  };
  at::Tensor twice = tensors.at("perm").clone(), beyond = tensors.at("outlier_indices").clone();
  twice[1] = twice[0];
  beyond[0][1][2] = 50;
  expect_refusals(
      values.size(0), values.size(1), vptq_config(vptq_layer(true, values.size(1))), tensors,
      {missing("indices"),
       missing("centroids.weight"),
       missing("res_centroids.weight"),
       missing("outlier_centroids.weight"),
       missing("outlier_indices"),
       missing("perm"),
       missing("weight_scale"),
       missing("weight_bias"),
       tensor("perm", twice, "perm': expected every input once, 0 to 39"),
       tensor("outlier_indices", beyond, "the place at [1, 2] (vector, input) is 50: expected 0 to 49"),
       tensor("indices", tensors.at("indices").slice(2, 0, 5).contiguous(),
              "expected I32 [2, 3, 6], found I32 [2, 3, 5]"),
       tensor("weight_scale", at::full({40}, NAN, at::kHalf), "weight_scale': the value at [0] is NaN"),
       layer("num_centroids", {50, 60}, "num_centroids: expected powers of two"),
       layer("num_centroids", {50, 0}, "num_centroids: expected a second number of 2 and more"),
       layer("num_centroids", 64, "num_centroids: expected two integers"),
       layer("num_res_centroids", {16, 16}, "num_res_centroids: expected -1 for outliers"),
       layer("vector_lens", {0, 8}, "vector_lens: expected a first number of 1 and more, for outliers"),
       layer("vector_lens", {6, -1}, "vector_lens: expected a second number of 1 and more"),
       layer("group_size", 19, "4 outliers and 2 groups of 19 inputs: expected 40 inputs"),
       layer("is_indice_packed", false, "is_indice_packed: expected true, found 'false'"),
       layer("indices_as_float", true, "indices_as_float: expected false"),
       layer("vector_quant_dim", "in", "vector_quant_dim: expected out, found 'in'"),
       layer("enable_perm", false, "not expected beside a linear stored as VPTQ 64+16 of 8"),
       layer("rank", 1, "unknown key 'rank'"),
       config_key("config_for_layers", 3, "expected an object of layers"),
       config_key("config_for_layers", Json::object(), "is stored, but"),
       config_key("enable_proxy_error", true, "enable_proxy_error: expected false")});
}

// --- QTIP

TEST(QtipLibrary, HadamardTransformsAreTheLibrarys) {
  const Tensors all = golden("hadamard");
  for (const int64_t order : {1, 12, 20, 28, 36, 52, 60, 108, 116, 124, 140, 156, 172}) {
    const at::Tensor rows = all.at(fmt::format("{}.in", order)).to(at::kFloat);
    EXPECT_TRUE(at::allclose(hadamard_rows(rows), all.at(fmt::format("{}.out", order)), 1e-5, 1e-5)) << order;
  }
}

Json qtip_config(const char* mode, int bits) {
  return {{"quip_params",
           {{"L", 16},
            {"K", bits},
            {"V", 2},
            {"tlut_bits", 9},
            {"decode_mode", mode},
            {"td_x", 16},
            {"td_y", 16},
            {"split_for_tp", false},
            {"skip_list", nullptr}}}};
}

Tensors qtip_tensors(const Tensors& all, int bits) {
  return {{"trellis", all.at(std::to_string(bits) + ".trellis")},
          {"tlut", all.at("tlut")},
          {"SU", at::ones({64}, at::kHalf)},
          {"SV", at::ones({32})},
          {"rcp", at::zeros({}, at::kLong)},
          {"tp_rank", at::full({}, 8, at::kLong)}};
}

at::Tensor rotated(const at::Tensor& values) {
  return hadamard_rows(hadamard_rows(values.clone()).t().contiguous()).t();
}

TEST(QtipLibrary, TilesInTheKernelsOrderAreReadAsTheLibraryDoes) {
  const Tensors all = golden("qtip");
  for (const int bits : {2, 3, 4}) {
    const at::Tensor values = all.at(std::to_string(bits) + ".values").to(at::kFloat);
    const QuantizedTensor read =
        read_stored(32, 64, qtip_config("quantlut_sym", bits), qtip_tensors(all, bits));
    EXPECT_TRUE(at::allclose(read.dequantize(), rotated(values), 1e-5, 1e-6)) << bits;
  }
}

/// Inputs (1) or outputs (2) in two parts.
TEST(Qtip, PartsAreTransformedByThemselves) {
  const Tensors all = golden("qtip");
  const at::Tensor values = all.at("2.values").to(at::kFloat);
  for (const int64_t way : {1, 2}) {
    Tensors tensors = qtip_tensors(all, 2);
    tensors["rcp"] = at::full({}, way, at::kLong);
    tensors["tp_rank"] = at::full({}, 2, at::kLong);
    std::vector<at::Tensor> parts;
    for (const at::Tensor& part : values.chunk(2, way == 1 ? 1 : 0))
      parts.push_back(rotated(part.contiguous()));
    EXPECT_TRUE(at::allclose(read_stored(32, 64, qtip_config("quantlut_sym", 2), tensors).dequantize(),
                             at::cat(parts, way == 1 ? 1 : 0), 1e-5, 1e-6));
  }
}

TEST(Qtip, Refusals) {
  const Tensors tensors = qtip_tensors(golden("qtip"), 2);
  const auto key = [&](const char* name, Json value, std::string text) {
    return Refusal{name, [=](Json& config, Tensors&) { config["quip_params"][name] = value; },
                   std::move(text)};
  };
  expect_refusals(
      32, 64, qtip_config("quantlut_sym", 2), tensors,
      {missing("tlut"),
       missing("SU"),
       missing("SV"),
       missing("rcp"),
       missing("tp_rank"),
       {"trellis", [](Json&, Tensors& t) { t.erase("trellis"); }, "is stored, but"},
       tensor("trellis", at::zeros({8, 48}, at::kShort), "expected I16 [8, 32], found I16 [8, 48]"),
       tensor("tlut", at::full({512, 2}, NAN, at::kHalf), "tlut': the value at [0, 0] is NaN"),
       tensor("rcp", at::full({}, 3, at::kLong),
              "rcp': expected 0 (no part), 1 (of the inputs) or 2 (of the "
              "outputs), found 3"),
       key("K", 0, "quip_params.K: expected 1 to 8, found '0'"),
       key("V", 3, "quip_params.V: expected 1 to 2, found '3'"),
       key("L", 3, "quip_params.K: expected at most L / V = 1"),
       key("tlut_bits", 16, "quip_params.tlut_bits: expected at most 15"),
       key("decode_mode", "4mad",
           "decode_mode: expected 1mad or 2mad or 3inst or lut or quantlut or "
           "quantlut_sym, found '4mad'"),
       key("decode_mode", "1mad", "quip_params.V: expected 1, with 1mad"),
       key("td_x", 64, "of shape [32, 64] can't be stored in tiles of 64 x 16"),
       key("rank", 1, "unknown key 'rank'")});
  Tensors parts = tensors;
  parts["rcp"] = at::ones({}, at::kLong);
  for (const int64_t rank : {0, -1, 3, 64}) {
    parts["tp_rank"] = at::full({}, rank, at::kLong);
    EXPECT_THAT(refusal_of(32, 64, qtip_config("quantlut_sym", 2), parts),
                HasSubstr(fmt::format("in {} parts: there is no Hadamard matrix", rank)));
  }
}

// --- QuIP#

Json quip_config() {
  return {{"quip_params",
           {{"codebook", "E8P12"},
            {"codesz", 8},
            {"idx_dtype", "torch.int64"},
            {"packsz", 4},
            {"rescale_WH", true}}}};
}

/// Random words are codes, too.
Tensors quip_tensors(int64_t out, int64_t in) {
  return {{"Qidxs", at::randint(0, int64_t{1} << 62, {out, in / 32}, at::kLong)},
          {"SU", at::rand({in}).to(at::kHalf)},
          {"SV", at::rand({out}).to(at::kHalf)},
          {"scaleWH", at::rand({in}) + 0.5},
          {"Wscale", at::full({}, 0.25f)},
          {"codebook_id", at::full({}, 7, at::kLong)}};
}

TEST(Quip, ScalesAndStackedLinearsAreReadBack) {
  at::manual_seed(5);
  Json config = test::tiny_llama_config();
  config.update({{"num_hidden_layers", 1}, {"hidden_size", 64}, {"intermediate_size", 96}});
  Artefact artefact(config);
  artefact.config.update(quip_config());
  const std::string block = "model.layers.0.";
  std::map<std::string, Tensors> modules;
  for (const auto& [name, out, in] : {std::tuple("self_attn.qkv_proj", 64 + 32 + 32, 64),
                                      {"self_attn.o_proj", 64, 64},
                                      {"mlp.upgate_proj", 192, 64},
                                      {"mlp.down_proj", 64, 192}}) {
    if (std::string(name) == "mlp.down_proj") continue;  // 96 inputs are no whole tiles: stays as it is
    Tensors& tensors = modules[name] = quip_tensors(out, in);
    if (std::string(name).ends_with("qkv_proj")) tensors["fuse_scales"] = at::tensor({1.f, 2.f, 3.f});
    if (std::string(name).ends_with("upgate_proj")) tensors["fuse_scales"] = at::tensor({4.f, 5.f});
    for (const auto& [suffix, tensor] : tensors) artefact.tensors[block + name + "." + suffix] = tensor;
  }
  for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                           "mlp.gate_proj", "mlp.up_proj"})
    artefact.tensors.erase(block + name + ".weight");
  const test::TemporaryFolder folder;
  artefact.write(folder.path());
  const ModelFolder model = open_model_folder(folder.path());
  EXPECT_EQ(model.schemes.size(), 6u);
  const auto whole = [&](const char* name) {
    const Tensors& t = modules.at(name);
    const at::Tensor codes = unpack_e8p(t.at("Qidxs"));
    const at::Tensor values = e8p_codebook().index_select(0, codes.view({-1})).view({codes.size(0), -1});
    return rotated(values) * (t.at("SV").to(at::kFloat) * 0.25).unsqueeze(1) * t.at("SU").to(at::kFloat) /
           t.at("scaleWH");
  };
  const auto expect = [&](const char* name, const at::Tensor& values) {
    const at::Tensor found = model.weights->load(block + name + ".weight");
    EXPECT_TRUE(at::allclose(found, values, 1e-4, 1e-6)) << name;
  };
  const at::Tensor qkv = whole("self_attn.qkv_proj"), upgate = whole("mlp.upgate_proj");
  expect("self_attn.q_proj", qkv.slice(0, 0, 64));
  expect("self_attn.k_proj", qkv.slice(0, 64, 96) * 2);
  expect("self_attn.v_proj", qkv.slice(0, 96, 128) * 3);
  expect("self_attn.o_proj", whole("self_attn.o_proj"));
  expect("mlp.up_proj", upgate.slice(0, 0, 96) * 4);
  expect("mlp.gate_proj", upgate.slice(0, 96, 192) * 5);
}

TEST(Quip, Refusals) {
  const Tensors tensors = quip_tensors(32, 64);
  const auto key = [&](const char* name, Json value, std::string text) {
    return Refusal{name, [=](Json& config, Tensors&) { config["quip_params"][name] = value; },
                   std::move(text)};
  };
  expect_refusals(
      32, 64, quip_config(), tensors,
      {missing("SU"),
       missing("SV"),
       missing("Wscale"),
       missing("codebook_id"),
       missing("scaleWH"),
       {"Qidxs", [](Json&, Tensors& t) { t.erase("Qidxs"); }, "is stored, but"},
       tensor("Qidxs", at::zeros({32, 4}, at::kLong), "expected I64 [32, 2], found I64 [32, 4]"),
       tensor("codebook_id", at::full({}, 17, at::kLong), "codebook_id': expected 7 (E8P12), found 17"),
       tensor("scaleWH", at::zeros({64}), "the scale at [0] is 0: expected a positive number"),
       tensor("SV", at::full({32}, INFINITY, at::kHalf), "SV': the value at [0] is infinite"),
       key("codebook", "E8P12RVQ4B", "codebook: expected E8P12, found 'E8P12RVQ4B'"),
       key("lora_rank", 64, "lora_rank: expected 0, found '64'"),
       key("rescale_WH", nullptr, "rescale_WH: expected true or false"),
       key("rescale_WH", false, "scaleWH': not expected beside a linear stored as QuIP# E8P12"),
       key("bits", 2, "unknown key 'bits'")});
  EXPECT_THAT(refusal_of(40, 64, quip_config(), quip_tensors(32, 64)),
              HasSubstr("of shape [40, 64] can't be stored as QuIP# E8P12"));
}

}  // namespace
}  // namespace lathe
