// Artefacts of every format in safetensors, each key of their configuration and of their index, each tensor's
// entry in the header and the contents of each kind of tensor broken in turn, through all that reads them: a
// sound answer or one line that names the folder. (broken_gguf_test.cc has GGUF's headers; the tables beside
// each reader say which line.)
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "apps/quantize/convert.h"
#include "apps/quantize/inspect.h"
#include "formats/layouts/layout_model.h"
#include "formats/targets/kv_cache_format.h"
#include "formats/targets/spqr_tiles.h"
#include "lib/kernels/group_quant.h"
#include "tests/unit/apps/quantize/broken_folder.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

using test::Artefact;
using test::BreakableShard;
using Json = nlohmann::json;
using Per = ActivationScheme::Per;
namespace fs = std::filesystem;

/// One block of linears that all formats' groups and tiles divide.
Json small_config() {
  Json config = test::tiny_llama_config();
  config.update(
      {{"num_hidden_layers", 1}, {"hidden_size", 128}, {"head_dim", 32}, {"intermediate_size", 128}});
  return config;
}

ActivationScheme input(const char* type, bool dynamic, Per per, int64_t group = 0) {
  ActivationScheme scheme;
  if (type != std::string("int")) scheme = ActivationScheme::of_floats(type);
  if (type == std::string("int") || type == std::string("fp8_e4m3")) {
    scheme.dynamic = dynamic;
    scheme.per = per;
    scheme.group_size = group;
  }
  return scheme;
}

struct Kind {
  const char* name;
  const char* format;
  Scheme scheme;
  std::optional<ActivationScheme> activations = {};
  bool kv_cache = false;
  std::optional<Scheme> mlp = {};  // of the linears there, with activations of their own
  std::optional<ActivationScheme> mlp_activations = {};
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

std::vector<Kind> kinds() {
  const Scheme four{"int", 4, 32, true}, asymmetric{"int", 4, 32, false}, eight{"int", 8, -1, true};
  const auto floats = [](const char* type) { return Scheme::of_floats(type); };
  ActivationScheme zero = input("int", false, Per::tensor);
  zero.symmetric = false;
  return {
      {"packed", "compressed-tensors", asymmetric, {}, true},
      {"int8", "compressed-tensors", eight, zero},
      {"fp8", "compressed-tensors", Scheme::of_floats("fp8_e4m3", -1, -1),
       input("fp8_e4m3", false, Per::tensor)},
      {"fp8-block", "compressed-tensors", Scheme::of_floats("fp8_e4m3", 128, 128),
       input("fp8_e4m3", true, Per::group, 128)},
      {"nvfp4", "compressed-tensors", floats("nvfp4"), ActivationScheme::of_floats("nvfp4")},
      {"mxfp4", "compressed-tensors", floats("mxfp4"), ActivationScheme::of_floats("mxfp4")},
      {"mxfp6", "compressed-tensors", floats("mxfp6_e2m3")},
      {"mxfp8", "compressed-tensors", floats("mxfp8"), ActivationScheme::of_floats("mxfp8")},
      {"gptq", "gptq", four},
      {"gptq-v2", "gptq-v2", asymmetric},
      {"awq", "awq", asymmetric},
      {"awq-gemv", "awq-gemv", asymmetric},
      {"modelopt-fp8", "modelopt", Scheme::of_floats("fp8_e4m3", -1, -1),
       input("fp8_e4m3", false, Per::tensor)},
      {"modelopt-channel", "modelopt", floats("fp8_e4m3"), input("fp8_e4m3", true, Per::token)},
      {"modelopt-nvfp4", "modelopt", floats("nvfp4"), ActivationScheme::of_floats("nvfp4")},
      {"modelopt-int4", "modelopt", four},
      {"modelopt-w4a8", "modelopt", {"int", 4, 128, true}, input("fp8_e4m3", false, Per::tensor)},
      {"modelopt-mixed", "modelopt", Scheme::of_floats("fp8_e4m3", -1, -1),
       input("fp8_e4m3", false, Per::tensor), false, floats("nvfp4"), ActivationScheme::of_floats("nvfp4")},
      {"hqq", "hqq", {.bits = 4, .group_size = 32, .symmetric = false, .real_zero = true}},
      {"spqr", "spqr", {.bits = 3, .group_size = 16, .symmetric = false, .scale_grid = ScaleGrid{3, 16}}}};
}

/// Any numbers that the scheme holds, for the formats that no plain rounding makes.
QuantizedTensor any_tensor(const Scheme& scheme, int64_t out, int64_t in) {
  const int64_t groups = in / scheme.group_size;
  QuantizedTensor tensor{
      scheme, DType::F16, at::randint(scheme.qmin(), scheme.qmax() + 1, {out, in}, at::kChar), {}, {}};
  if (scheme.real_zero) {
    tensor.scales = round_to(at::rand({out, groups}) + 0.1, DType::F16);
    tensor.zero_points = round_to(at::rand({out, groups}) * 15, DType::F16) + scheme.qmin();
    return tensor;
  }
  const auto codes = [&] { return at::randint(0, 8, {out, groups}, at::kByte); };
  const auto numbers = [&](double scale) {
    return (at::rand({out / 16, groups}) * scale).to(at::kHalf).to(at::kFloat);
  };
  tensor.second_level = {codes(), codes(), numbers(0.01), -numbers(4), numbers(1), -numbers(2)};
  const SecondLevel& level = *tensor.second_level;
  tensor.scales = decode_second_level(level.scale_codes, level.scale_scales, level.scale_zeros);
  tensor.zero_points = decode_second_level(level.zero_codes, level.zero_scales, level.zero_zeros) - 4;
  tensor.group_index = at::randperm(in, at::kLong).div(16, "floor").to(at::kInt);
  tensor.outliers = outliers_of(at::randn({out, in}) * (at::rand({out, in}) < 0.02));
  return tensor;
}

std::optional<InputQuantizer> quantizer_of(const std::optional<ActivationScheme>& scheme) {
  if (!scheme) return std::nullopt;
  InputQuantizer quantizer{.scheme = *scheme};
  if (scheme->calibrated()) quantizer.scale = kernels::global_scale(at::full({}, 84.f)).item<float>();
  return quantizer;
}

Artefact artefact_of(const Kind& kind) {
  Artefact artefact(small_config());
  artefact.format = kind.format;
  if (kind.format == std::string("modelopt") && kind.scheme.type != "int") artefact.scale_dtype = DType::F32;
  const auto in_mlp = [&](const Linear& linear) {
    return kind.mlp && linear.name.find(".mlp.") != std::string::npos;
  };
  if (kind.scheme.real_zero || kind.scheme.scale_grid) {
    std::vector<PlannedLinear> planned;
    for (const Linear& linear : artefact.graph.blocks[0].linears) {
      planned.push_back({linear.name, linear.out, linear.in, kind.scheme, DType::F16, linear.role});
      artefact.tensors.erase(linear.name + ".weight");
      const QuantizedTensor tensor = any_tensor(kind.scheme, linear.out, linear.in);
      if (tensor.outliers) planned.back().outliers = tensor.outliers->count();
      for (const auto& [name, part] : find_target(kind.format).pack(linear.name, tensor))
        artefact.tensors[name] = part;
    }
    artefact.config["quantization_config"] =
        find_target(kind.format).quantization_config(planned, {"lm_head"});
  } else {
    artefact.pack([&](const Linear& linear) { return in_mlp(linear) ? *kind.mlp : kind.scheme; },
                  [&](const Linear& linear) {
                    return quantizer_of(in_mlp(linear) ? kind.mlp_activations : kind.activations);
                  });
  }
  if (kind.kv_cache) {
    compressed_tensors_kv_cache().describe({}, artefact.config["quantization_config"]);
    for (const auto& [name, tensor] :
         compressed_tensors_kv_cache().pack("model.layers.0.self_attn", {{}, {0.0625f}, {0.02f}}))
      artefact.tensors[name] = tensor;
  }
  return artefact;
}

/// Every tensor as it would be computed with; all finite.
void read_all(const fs::path& folder) {
  const ModelFolder model = open_model_folder(folder);
  for (const auto& [name, shape] : model.graph.expected_tensors()) {
    if (!at::isfinite(model.weights->load(name)).all().item<bool>())
      throw std::runtime_error(name + " holds what is no number");
  }
  for (const auto& [name, scheme] : model.schemes) model.weights->input_quantizer(name);
  model.weights->kv_cache("model.layers.0.self_attn");
}

/// Every linear of a kernel layout, unpacked.
void read_layout(const fs::path& folder) {
  const ModelFolder model = open_layout_model(folder);
  for (const auto& [name, scheme] : model.schemes) model.read_quantized(name);
}

/// Tries what reads a folder, and counts.
struct Trial {
  fs::path folder;
  void (*read)(const fs::path&) = read_all;
  const char* to = nullptr;  // the format that it is converted to
  int tried = 0, refused = 0, failed = 0;

  /// Was it refused? Reports anything but a sound answer or one line.
  bool refuses(const std::string& what) {
    ++tried;
    const std::string reading = line(what, "reading", [&] { read(folder); });
    if (reading.empty() || tried % 8 == 0)  // what can't be read is listed all the same
      line(what, "inspect", [&] { inspect_folder({.folder = folder, .json = true}); });
    if (to != nullptr && tried % 4 == 0) convert(what);  // every field is broken in more than four ways
    if (!reading.empty()) ++refused;
    return !reading.empty();
  }

  /// A whole artefact or nothing at all.
  void convert(const std::string& what) {
    const test::TemporaryFolder beside;
    const fs::path output = beside.path() / "out";
    const std::string refusal = line(what, "convert", [&] {
      run_convert({.model = folder, .to = to, .output = output, .gguf_pre_tokenizer = {}, .quiet = true});
    });
    if (refusal.empty() ? !fs::exists(output / "manifest.json") : !fs::is_empty(beside.path())) {
      ++failed;
      ADD_FAILURE() << "convert, " << what << ": leaves what is not whole; it says: " << refusal;
    }
  }

  std::string line(const std::string& what, const char* how, const std::function<void()>& act) {
    std::string problem;
    try {
      act();
      return "";
    } catch (const UserError& error) {
      const std::string message = error.what();
      const auto says = [&](const std::string& text) { return message.find(text) != std::string::npos; };
      // What is read names the folder; what is about to be written is named by its tensor.
      const bool placed = says(folder.string()) || (how == std::string("convert") && says("model."));
      if (!says("\n") && (placed || says("lm_head"))) return message;
      problem = "no single line that says where: " + message;
    } catch (const std::exception& error) {
      problem = error.what();
    }
    if (++failed <= 20) ADD_FAILURE() << how << ", " << what << ": " << problem;
    return "failed";
  }
};

/// Places that say how a file was made or what others do with it: with anything there it reads as before.
bool tells_nothing(const Kind& kind, const std::string& place) {
  static const std::map<std::string, std::vector<std::string>> places = {
      {"compressed-tensors", {"/version", "/global_compression_ratio"}},
      {"gptq", {"/meta"}},
      {"gptq-v2", {"/meta"}},
      {"awq", {"/meta", "/desc_act", "/lm_head"}},
      {"awq-gemv", {"/meta", "/desc_act", "/lm_head"}},
      {"modelopt",
       {"/producer", "/config_groups/group_0/targets", "/config_groups/group_0/weights/type",
        "/config_groups/group_0/weights/dynamic", "/config_groups/group_0/input_activations/type",
        "/config_groups/group_0/input_activations/dynamic"}},
      {"hqq", {"/quant_config", "/skip_modules"}},  // the tensors say it
      {"spqr", {"/modules_to_not_convert"}}};
  if (kind.mlp && place.starts_with("/config_groups")) return true;  // quantized_layers says it
  return std::ranges::any_of(places.at(kind.format),
                             [&](const auto& start) { return place.starts_with(start); });
}

std::string short_text(const Json& value) { return value.dump().substr(0, 40); }

/// Each key removed, and given wrong values. Half of those at least must be refused where the key `decides`.
void break_places(Trial& trial, const Json& whole, const std::function<void(const Json&)>& put,
                  const std::function<bool(const std::string& place)>& decides) {
  for (const auto& place : test::places_in(whole)) {
    put(test::without(whole, place));
    trial.refuses(place.to_string() + " removed");
    int refused = 0, wrong = 0;
    for (const Json& value : test::wrong_values()) {
      if (value == whole[place]) continue;
      put(test::with(whole, place, value));
      ++wrong;
      refused += trial.refuses(fmt::format("{} = {}", place.to_string(), short_text(value)));
    }
    if (decides(place.to_string())) {
      EXPECT_GE(refused * 2, wrong) << place.to_string() << " may be anything";
    }
  }
}

void break_config(Trial& trial, const Json& config, const Kind& kind) {
  const auto put = [&](const Json& changed) {
    Json whole = config;
    whole["quantization_config"] = changed;
    std::ofstream(trial.folder / "config.json") << whole.dump();
  };
  break_places(trial, config.at("quantization_config"), put,
               [&](const std::string& place) { return !tells_nothing(kind, place); });
  std::ofstream(trial.folder / "config.json") << config.dump();
}

/// What an entry may be instead, beside wrong_values() in each of its places.
std::vector<Json> other_entries(const Json& entry) {
  std::vector<Json> others;
  for (const char* type : {"I32", "F16", "BF16", "F32", "F64", "U8", "I8", "F8_E4M3", "I64", "BOOL"})
    if (entry.at("dtype") != type) others.push_back(test::with(entry, Json::json_pointer("/dtype"), type));
  Json turned = entry;
  std::ranges::reverse(turned["shape"]);
  if (turned != entry) others.push_back(turned);
  turned = entry;
  turned["shape"].push_back(1);
  others.push_back(turned);
  turned = entry;
  std::ranges::reverse(turned["data_offsets"]);
  others.push_back(turned);
  return others;
}

/// The end of a tensor's name, and what stands outside blocks by its whole name.
std::string kind_of(const std::string& tensor) {
  return tensor.find(".layers.") == std::string::npos ? tensor : tensor.substr(tensor.rfind('.'));
}

void break_header(Trial& trial, const BreakableShard& shard) {
  const Json& header = shard.header();
  std::set<std::string> seen;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const Json::json_pointer place = Json::json_pointer("") / name;
    const auto attempt = [&](const Json& changed, const std::string& what) {
      shard.put_header(changed);
      return trial.refuses(name + " " + what);
    };
    EXPECT_TRUE(attempt(test::without(header, place), "removed")) << name;
    Json renamed = test::without(header, place);
    renamed[name + "s"] = entry;
    EXPECT_TRUE(attempt(renamed, "renamed")) << name;
    for (const Json& other : other_entries(entry))
      attempt(test::with(header, place, other), short_text(other));
    if (!seen.insert(kind_of(name)).second) continue;
    for (const auto& inner : test::places_in(entry)) {
      for (size_t i = seen.size() % 2; i < test::wrong_values().size();
           i += 2) {  // the others at the next kind
        const Json& value = test::wrong_values()[i];
        const Json changed = test::with(entry, inner, value);
        attempt(test::with(header, place, changed), inner.to_string() + " = " + short_text(value));
      }
      attempt(test::with(header, place, test::without(entry, inner)), inner.to_string() + " removed");
    }
    for (const Json& value : test::wrong_values())
      attempt(test::with(header, place, value), "= " + short_text(value));
    shard.put_back();
    for (const char byte : {'\xff', '\x00', '\x7f', '\x80', '\x01'}) {
      shard.fill(name, byte);
      trial.refuses(fmt::format("{} of bytes {}", name, static_cast<int>(byte)));
    }
    shard.refill(name);
  }
  shard.put_back();
}

class BrokenArtefact : public ::testing::TestWithParam<Kind> {};

TEST_P(BrokenArtefact, GivesASoundAnswerOrOneLine) {
  at::manual_seed(3);
  const Artefact artefact = artefact_of(GetParam());
  const test::TemporaryFolder folder;
  artefact.write(folder.path());
  const BreakableShard shard(folder.path() / "model.safetensors");
  // What compressed-tensors can't hold is written anew.
  const Scheme& scheme = GetParam().scheme;
  const bool alone = scheme.real_zero || scheme.scale_grid || GetParam().name == std::string("modelopt-w4a8");
  Trial trial{.folder = folder.path(), .to = alone ? GetParam().format : "compressed-tensors"};
  ASSERT_FALSE(trial.refuses("whole")) << "the whole artefact is refused";
  trial.convert("whole");
  ASSERT_EQ(trial.failed, 0) << "the whole artefact is not converted";
  break_config(trial, artefact.config, GetParam());
  break_header(trial, shard);
  ASSERT_FALSE(trial.refuses("whole again")) << "something is still broken";
  EXPECT_EQ(trial.failed, 0);
  // Of several algorithms config.json says everything twice, and one of the two decides.
  EXPECT_GT(trial.refused * 4, trial.tried * (GetParam().mlp ? 2 : 3));
}

/// Does layout.json say there what the tensors mean? The rest is for people.
bool tells_of_tensors(const std::string& place) {
  const auto depth = std::ranges::count(place, '/');
  if (depth == 1) return place == "/schema" || place == "/layout" || place == "/linears";
  const std::string end = place.substr(place.rfind('/'));
  return place.starts_with("/linears/") &&
         (depth == 2 || (depth == 3 && (end == "/scheme" || end == "/act_order" || end == "/shape")));
}

void break_layout(const Kind& kind, const std::string& layout) {
  SCOPED_TRACE(layout);
  at::manual_seed(3);
  const test::TemporaryFolder folder;
  artefact_of(kind).write(folder.path());
  const fs::path place = folder.path() / "layouts" / layout;
  run_convert(
      {.model = folder.path(), .to = layout, .output = place, .gguf_pre_tokenizer = {}, .quiet = true});
  const BreakableShard shard(place / "model.safetensors");
  const Json description = Json::parse(read_text_file(place / "layout.json", 1 << 24));
  Trial trial{.folder = place, .read = read_layout};
  ASSERT_FALSE(trial.refuses("whole")) << "the whole layout is refused";
  Json few = description;  // one linear is broken, the others stand beside it
  const Json others =
      test::without(description.at("linears"), Json::json_pointer("/model.layers.0.mlp.up_proj"));
  for (const auto& [name, linear] : others.items()) few["linears"].erase(name);
  const auto put = [&](Json changed) {
    if (changed.contains("linears") && changed["linears"].is_object()) changed["linears"].update(others);
    std::ofstream(place / "layout.json") << changed.dump();
  };
  break_places(trial, few, put, tells_of_tensors);
  std::ofstream(place / "layout.json") << description.dump();
  break_header(trial, shard);
  ASSERT_FALSE(trial.refuses("whole again")) << "something is still broken";
  EXPECT_EQ(trial.failed, 0);
}

TEST(BrokenLayout, GivesASoundAnswerOrOneLine) {
  const std::vector<Kind> all = kinds();
  const auto named = [&](const char* name) {
    return *std::ranges::find(all, std::string(name),
                              [](const Kind& kind) { return std::string(kind.name); });
  };
  break_layout(named("packed"), "marlin");
  break_layout(named("modelopt-nvfp4"), "nvfp4-swizzled");
}

INSTANTIATE_TEST_SUITE_P(EachFormat, BrokenArtefact, ::testing::ValuesIn(kinds()), [](const auto& info) {
  std::string name = info.param.name;
  std::ranges::replace(name, '-', '_');
  return name;
});

/// Older exports say in a file of their own alone how they are quantised.
struct SideFile {
  Kind kind;
  const char* name;
};
void PrintTo(const SideFile& file, std::ostream* out) { *out << file.kind.name << " " << file.name; }

class BrokenSideFile : public ::testing::TestWithParam<SideFile> {};

/// Does the key decide what the tensors mean? modelopt's other keys are all about what is left out.
bool decides(const Kind& kind, const std::string& place) {
  if (kind.format == std::string("modelopt")) return place.starts_with("/quantization/quant_algo");
  return place != "/quant_method" && !tells_nothing(kind, place);
}

TEST_P(BrokenSideFile, GivesASoundAnswerOrOneLine) {
  at::manual_seed(3);
  const std::string format = GetParam().kind.format;
  Artefact artefact = artefact_of(GetParam().kind);
  Json whole;
  for (const auto& [name, content] :
       find_target(format).side_files(artefact.config.at("quantization_config")))
    if (name == GetParam().name) whole = content;
  artefact.config.erase("quantization_config");
  const test::TemporaryFolder folder;
  artefact.write(folder.path());
  Trial trial{.folder = folder.path()};
  const auto put = [&, file = folder.path() / GetParam().name](const Json& content) {
    std::ofstream(file) << content.dump();
  };
  put(whole);
  ASSERT_FALSE(trial.refuses("whole")) << "the whole artefact is refused";
  break_places(trial, whole, put, [&](const std::string& place) { return decides(GetParam().kind, place); });
  EXPECT_EQ(trial.failed, 0);
  EXPECT_GT(trial.refused, 0);
}

std::vector<SideFile> side_files() {
  std::vector<SideFile> files;
  for (const Kind& kind : kinds()) {
    const std::string_view format = kind.format;
    if (format == "modelopt") files.push_back({kind, "hf_quant_config.json"});
    if (format.starts_with("gptq") || format == "awq") files.push_back({kind, "quantize_config.json"});
    if (format.starts_with("awq")) files.push_back({kind, "quant_config.json"});
  }
  return files;
}

INSTANTIATE_TEST_SUITE_P(EachFormat, BrokenSideFile, ::testing::ValuesIn(side_files()), [](const auto& info) {
  std::string name = info.param.kind.name + std::string("_") + info.param.name;
  std::ranges::replace(name, '-', '_');
  return name.substr(0, name.find('.'));
});

/// The index of two shards, and what stands beside a configuration.
TEST(BrokenIndex, GivesASoundAnswerOrOneLine) {
  const Artefact artefact = artefact_of(kinds().front());
  const test::TemporaryFolder folder;
  std::vector<PlannedTensor> planned;
  for (const auto& [name, tensor] : artefact.tensors) planned.push_back({name, info_of(tensor)});
  ShardWriter writer(plan_shards(planned, 60000), folder.path());
  for (const auto& [name, tensor] : artefact.tensors) writer.write(name, bytes_of(tensor));
  writer.finish();
  std::ofstream(folder.path() / "config.json") << artefact.config.dump();
  const fs::path file = folder.path() / "model.safetensors.index.json";
  const Json index = Json::parse(read_text_file(file, 1 << 24));
  Trial trial{.folder = folder.path()};
  ASSERT_FALSE(trial.refuses("whole"));
  const auto put = [&](const Json& changed) { std::ofstream(file) << changed.dump(); };
  break_places(trial, index, put, [](const std::string&) { return false; });
  EXPECT_EQ(trial.failed, 0);
  EXPECT_GT(trial.refused, trial.tried / 2);
}

}  // namespace
}  // namespace lathe
