// Artefacts in GPTQ's and AWQ's layouts, whole and broken.
#include <gmock/gmock.h>

#include "formats/targets/model_folder.h"
#include "lib/base/error.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

using test::Artefact;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using Change = std::function<void(Artefact&)>;

constexpr const char* kLinear = "model.layers.1.mlp.down_proj";
std::string tensor_of(const char* suffix) { return std::string(kLinear) + suffix; }

/// A small Llama in this format; its first block's attention stays in floating point.
Artefact artefact_in(const std::string& format, const Scheme& scheme) {
  Artefact artefact;
  artefact.format = format;
  artefact.pack([&](const Linear& linear) {
    return linear.name.find("layers.0.self_attn") != std::string::npos ? std::nullopt : std::optional(scheme);
  });
  return artefact;
}

/// What reading all of it says; empty where all is as it was meant.
std::string error_of(const Artefact& artefact) {
  const test::TemporaryFolder folder;
  artefact.write(folder.path());
  try {
    const ModelFolder model = open_model_folder(folder.path());
    EXPECT_EQ(model.schemes.size(), artefact.quantized.size());
    for (const auto& [name, tensor] : artefact.quantized) {
      const QuantizedTensor read = model.read_quantized(name);
      EXPECT_EQ(read.scheme, tensor.scheme);
      EXPECT_TRUE(read.codes.equal(tensor.codes) && read.scales.equal(tensor.scales)) << name;
      EXPECT_EQ(read.zero_points.defined(), tensor.zero_points.defined());
      if (read.zero_points.defined()) {
        EXPECT_TRUE(read.zero_points.equal(tensor.zero_points)) << name;
      }
      EXPECT_EQ(read.group_index.defined(), tensor.group_index.defined());
      if (read.group_index.defined()) {
        EXPECT_TRUE(read.group_index.equal(tensor.group_index)) << name;
      }
      EXPECT_TRUE(model.weights->load(name + ".weight").equal(tensor.dequantize())) << name;
    }
  } catch (const UserError& error) {
    const std::string message = error.what();
    EXPECT_THAT(message, HasSubstr(folder.path().string())) << "the message names no file";
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }
  return {};
}

struct Case {
  const char* what;
  Change change;
  std::string message;
};

void expect_refusals(const std::string& format, const Scheme& scheme, const std::vector<Case>& cases) {
  const Artefact whole = artefact_in(format, scheme);
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    Artefact artefact = whole;
    c.change(artefact);
    EXPECT_THAT(error_of(artefact), HasSubstr(c.message));
  }
}

Change drop(const char* suffix) {
  return [=](Artefact& a) { a.tensors.erase(tensor_of(suffix)); };
}
Change put(const char* suffix, const at::Tensor& value) {
  return [=](Artefact& a) { a.tensors[tensor_of(suffix)] = value; };
}
/// Changes a copy of the tensor.
Change edit(const char* suffix, const std::function<void(at::Tensor&)>& change) {
  return [=](Artefact& a) {
    at::Tensor copy = a.tensors.at(tensor_of(suffix)).clone();
    change(copy);
    a.tensors[tensor_of(suffix)] = copy;
  };
}
Change key(const char* name, const Json& value) {
  return [=](Artefact& a) { a.config["quantization_config"][name] = value; };
}
Change no_key(const char* name) {
  return [=](Artefact& a) { a.config["quantization_config"].erase(name); };
}

const Scheme kSymmetric{"int", 4, 32, true}, kAsymmetric{"int", 4, 32, false};

TEST(WordsReader, ReadsWhatWasWritten) {
  EXPECT_EQ(error_of(artefact_in("gptq", kSymmetric)), "");
  for (const int bits : {2, 3, 4, 8}) {
    for (const bool symmetric : {true, false}) {
      for (const int64_t group : {-1, 16, 32}) {
        SCOPED_TRACE(fmt::format("{} {} {}", bits, symmetric, group));
        EXPECT_EQ(error_of(artefact_in("gptq-v2", {"int", bits, group, symmetric})), "");
      }
    }
  }
  for (const char* format : {"awq", "awq-gemv"}) {
    EXPECT_EQ(error_of(artefact_in(format, kSymmetric)), "");
    EXPECT_EQ(error_of(artefact_in(format, kAsymmetric)), "");
  }
  EXPECT_EQ(error_of(artefact_in("awq", {"int", 4, -1, false})), "");
}

/// down_proj has 96 inputs: three groups in any order.
TEST(WordsReader, GroupsInAnOrderOfTheirOwn) {
  Artefact artefact = artefact_in("gptq-v2", kAsymmetric);
  QuantizedTensor& tensor = artefact.quantized.at(kLinear);
  tensor.group_index = at::arange(96, at::kInt).remainder(3).to(at::kInt);
  for (const auto& [name, value] : find_target("gptq-v2").pack(kLinear, tensor))
    artefact.tensors[name] = value;
  EXPECT_EQ(error_of(artefact), "");
}

TEST(WordsReader, GptqMayLackGroupIndices) {
  Artefact artefact = artefact_in("gptq", kSymmetric);
  artefact.tensors.erase(tensor_of(".g_idx"));
  EXPECT_EQ(error_of(artefact), "");
}

/// GPTQModel's way to say that weights are symmetric.
/// A folder as its tool wrote it before config.json told: weights and the quantisation in files of their own.
test::fs::path write_older(const Artefact& artefact, const test::fs::path& folder, const char* side_file,
                           const Json& described, const std::string& weights) {
  Artefact bare = artefact;
  bare.config.erase("quantization_config");
  bare.write(folder);
  std::ofstream(folder / side_file) << described.dump();
  test::fs::rename(folder / "model.safetensors", folder / weights);
  return folder;
}

TEST(WordsReader, OlderFoldersSayItBesideTheirConfig) {
  const Scheme scheme{"int", 4, 32, true};
  // AutoGPTQ 0.4 to 0.7; AutoAWQ 0.1.
  const Json autogptq = {{"bits", 4},
                         {"group_size", 32},
                         {"damp_percent", 0.01},
                         {"desc_act", false},
                         {"static_groups", false},
                         {"sym", true},
                         {"true_sequential", true},
                         {"model_name_or_path", nullptr},
                         {"model_file_base_name", "gptq_model-4bit-32g"}};
  const Json autoawq = {{"zero_point", true}, {"q_group_size", 32}, {"w_bit", 4}, {"version", "GEMM"}};
  const std::string plain = "model.safetensors";
  Artefact gptq, awq;
  gptq.format = "gptq";
  gptq.pack([&](const Linear&) { return scheme; });
  awq.format = "awq";
  awq.pack([&](const Linear&) { return Scheme{"int", 4, 32, false}; });
  struct Older {
    const Artefact& artefact;
    const char* file;
    Json described;
    std::string weights;
  };
  for (const Older& older : {Older{gptq, "quantize_config.json", autogptq, plain},
                             Older{gptq, "quantize_config.json", autogptq, "gptq_model-4bit-32g.safetensors"},
                             Older{awq, "quant_config.json", autoawq, plain}}) {
    const test::TemporaryFolder folder;
    write_older(older.artefact, folder.path(), older.file, older.described, older.weights);
    const ModelFolder model = open_model_folder(folder.path());
    ASSERT_EQ(model.schemes.size(), older.artefact.quantized.size()) << older.file << older.weights;
    for (const auto& [name, tensor] : older.artefact.quantized)
      EXPECT_TRUE(model.weights->load(name + ".weight").equal(tensor.dequantize())) << name;
    Json wrong = older.described;
    wrong[older.file == std::string("quant_config.json") ? "w_bit" : "bits"] = 5;
    std::ofstream(folder.path() / older.file) << wrong.dump();
    try {
      open_model_folder(folder.path());
      ADD_FAILURE() << "5 bits were read";
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), HasSubstr((folder.path() / older.file).string() + "."))
          << "no such file named";
      EXPECT_THAT(error.what(), HasSubstr("found '5'"));
    }
  }
  const test::TemporaryFolder marlin;
  Json described = autogptq;
  described["is_marlin_format"] = true;
  write_older(gptq, marlin.path(), "quantize_config.json", described, plain);
  EXPECT_THROW(open_model_folder(marlin.path()), UserError);
}

TEST(WordsReader, AConfigBesideFloatingPointWeightsSaysNothing) {
  const test::TemporaryFolder folder;
  Artefact{}.write(folder.path());
  std::ofstream(folder.path() / "quantize_config.json") << R"({"bits": 4, "group_size": 32, "sym": true})";
  EXPECT_FALSE(open_model_folder(folder.path()).quantized);
}

TEST(WordsReader, AwqMaySayThatThereAreNoZeroPoints) {
  Artefact artefact = artefact_in("awq", kSymmetric);
  artefact.config["quantization_config"].erase("meta");
  artefact.config["quantization_config"]["zero_point"] = false;
  EXPECT_EQ(error_of(artefact), "");
}

TEST(WordsReader, GptqNamesWhatIsWrong) {
  const auto first = [](double value) { return [=](at::Tensor& t) { t.view(-1)[0] = value; }; };
  expect_refusals(
      "gptq", kSymmetric,
      {{"no qzeros", drop(".qzeros"),
        "tensor '" + tensor_of(".qzeros") + "' is missing: expected I32 [3, 8]"},
       {"no scales", drop(".scales"), ".scales' is missing"},
       {"no qweight", drop(".qweight"), kLinear},
       {"shape", put(".qweight", at::zeros({11, 64}, at::kInt)), "expected I32 [12, 64], found I32 [11, 64]"},
       {"type", put(".qweight", at::zeros({12, 64}, at::kLong)), "found I64 [12, 64]"},
       {"scales' type", put(".scales", at::ones({3, 64})), "expected F16 [3, 64], found F32"},
       {"more beside", put(".weight", at::zeros({64, 96}, at::kHalf)),
        "not expected beside a linear stored as"},
       {"a scale of 0", edit(".scales", first(0)), "the scale at [0, 0] is 0: expected a positive number"},
       {"an infinite scale", edit(".scales", first(INFINITY)), ".scales"},
       {"a negative group", edit(".g_idx", first(-1)), "expected each of the groups 0 to 2 32 times"},
       {"a group too far", edit(".g_idx", first(3)), "expected each of the groups 0 to 2 32 times"},
       {"a large group", edit(".g_idx", first(2147483647)), "expected each of the groups"},
       {"an uneven group", edit(".g_idx", first(1)), "expected each of the groups 0 to 2 32 times"},
       {"not symmetric", edit(".qzeros", first(0x77777778)), "`sym` is true, but the zero point at [0, 0]"},
       {"all bits set", edit(".qzeros", first(-1)), "make the artefact with checkpoint_format gptq_v2"},
       {"bits", key("bits", 5), "quantization_config.bits: expected 2, 3, 4 or 8, found '5'"},
       {"bits's type", key("bits", "4"), "quantization_config.bits: expected 2 to 8"},
       {"other bits", key("bits", 8), "gate_proj.qweight': expected I32 [16, 96], found I32 [8, 96]"},
       {"no bits", no_key("bits"), "missing key 'bits'"},
       {"no group size", no_key("group_size"), "missing key 'group_size'"},
       {"group size", key("group_size", 0), "group_size: expected a positive number, or -1"},
       {"group size that divides nothing", key("group_size", 7), "can't be read as int4 sym g7"},
       {"sym", key("sym", 1), "sym: expected true or false"},
       {"format", key("format", "marlin"), "format: expected gptq or gptq_v2"},
       {"two formats", key("format", "gptq_v2"), "checkpoint_format: expected gptq_v2 as `format` says"},
       {"words", key("pack_dtype", "int16"), "pack_dtype: expected int32"},
       {"rotation", key("rotation", {{"type", "hadamard"}}), "rotation: expected null"},
       {"dynamic", key("dynamic", Json::array({1})), "dynamic: expected an object"},
       {"a bad rule", key("dynamic", {{"+:([", Json::object()}}), "bad regular expression"},
       {"two rules of one",
        key("dynamic", {{"+:.*down", {{"sym", true}}}, {".*down_proj", {{"group_size", 16}}}}), "both match"},
       {"a rule's bits", key("dynamic", {{"+:.*down", {{"bits", 16}}}}), "bits: expected 2 to 8, found '16'"},
       {"skipped", key("dynamic", {{"-:.*down", Json::object()}}),
        "leaves 'model.layers.0.mlp.down_proj' in"}});
}

TEST(WordsReader, AwqNamesWhatIsWrong) {
  const auto first = [](double value) { return [=](at::Tensor& t) { t.view(-1)[0] = value; }; };
  expect_refusals(
      "awq", kSymmetric,
      {{"no qzeros", drop(".qzeros"),
        "tensor '" + tensor_of(".qzeros") + "' is missing: expected I32 [3, 8]"},
       {"no qweight", drop(".qweight"), kLinear},
       {"shape", put(".qweight", at::zeros({96, 7}, at::kInt)), "expected I32 [96, 8], found I32 [96, 7]"},
       {"an order of groups", put(".g_idx", at::zeros({96}, at::kInt)), "not expected beside a linear"},
       {"a negative scale", edit(".scales", first(-1)),
        "the scale at [0, 0] is -1: expected a positive number"},
       {"a scale that is none", edit(".scales", first(NAN)), ".scales"},
       {"not symmetric", edit(".qzeros", first(0)),
        "weights are symmetric by quantization_config, but the zero point at [0, 0]"},
       {"bits", key("bits", 8), "quantization_config.bits: expected 4, found '8'"},
       {"no bits", no_key("bits"), "missing key 'bits'"},
       {"zero points", key("zero_point", 1), "zero_point: expected true or false"},
       {"version", key("version", "gemv_fast"), "version: expected gemm or GEMM or gemv or GEMV"},
       {"another layout",
        [](Artefact& a) {
          a.config["quantization_config"]["version"] = a.config["quantization_config"]["format"] = "gemv";
        },
        "expected I32 [96, 8], found I32 [64, 12]"},
       {"two layouts", key("version", "gemv"), "format: expected gemv as `version` says"},
       {"group size", key("group_size", 64), "gate_proj.qzeros': expected I32 [1, 12], found I32 [2, 12]"},
       {"skipped", key("modules_to_not_convert", {"down_proj"}), "in floating point"},
       {"skipped what", key("modules_to_not_convert", 3),
        "modules_to_not_convert: expected a list of names"}});
}

}  // namespace
}  // namespace lathe
