// Faults in artefacts: whole ones are made once by real runs on small models, copied, and broken one by one.
#pragma once

#include <ATen/ATen.h>

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/quantize/pipeline.h"
#include "formats/safetensors/safetensors_header.h"
#include "lib/base/file.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe::test {

using Json = nlohmann::json;
using Tensors = std::map<std::string, at::Tensor>;

/// One safetensors file, in the order of names.
inline void write_shard(const fs::path& file, const Tensors& tensors) {
  std::vector<PlannedTensor> planned;
  for (const auto& [name, tensor] : tensors) planned.push_back({name, info_of(tensor)});
  std::ofstream out(file, std::ios::binary);
  out << format_safetensors_header(planned);
  for (const auto& [name, tensor] : tensors) {
    const auto bytes = bytes_of(tensor);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
}

inline Json json_of(const fs::path& file) { return Json::parse(read_text_file(file)); }
inline void edit_json(const fs::path& file, const std::function<void(Json&)>& change) {
  Json document = json_of(file);
  change(document);
  std::ofstream(file) << document.dump(2);
}

/// Changes the tensors of a folder, which are copies; each stays in its file, as the index says.
inline void edit_tensors(const fs::path& folder, const std::function<void(Tensors&)>& change) {
  std::map<std::string, fs::path> file_of;
  std::map<fs::path, Tensors> files;
  Tensors tensors;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    files[entry.path()];
    for (const auto& [name, tensor] : read_safetensors(entry.path())) {
      file_of[name] = entry.path();
      tensors[name] = tensor;
    }
  }
  change(tensors);
  Json map;
  size_t bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    const fs::path& file = file_of.contains(name) ? file_of.at(name) : files.begin()->first;
    files.at(file)[name] = tensor;
    map[name] = file.filename().string();
    bytes += tensor.nbytes();
  }
  for (const auto& [file, part] : files) write_shard(file, part);
  if (!fs::exists(folder / "model.safetensors.index.json")) return;
  edit_json(folder / "model.safetensors.index.json", [&](Json& index) {
    index["weight_map"] = map;
    index["metadata"]["total_size"] = bytes;
  });
}
inline void flip(at::Tensor& tensor, int64_t byte, int bit) {
  static_cast<uint8_t*>(tensor.data_ptr())[byte] ^= static_cast<uint8_t>(1 << bit);
}

/// A floating-point model with the embedded one's tokenizer, its weights of the size that trained ones have.
class SmallCheckpoint {
 public:
  explicit SmallCheckpoint(const Json& changes) {
    const fs::path tiny = fs::path(LATHE_SOURCE_DIR) / "data/models/lathe-tiny";
    Json config = json_of(tiny / "config.json");
    config.update({{"hidden_size", 128},
                   {"head_dim", 32},
                   {"intermediate_size", 256},
                   {"num_hidden_layers", 2},
                   {"num_attention_heads", 4},
                   {"num_key_value_heads", 2}});
    config.update(changes);
    std::ofstream(path() / "config.json") << config.dump(2);
    for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"})
      fs::copy_file(tiny / name, path() / name);
    const ModelGraph graph = build_graph(parse_model_config(config, "config.json"));
    at::manual_seed(5);
    Tensors tensors;
    for (const auto& [name, shape] : graph.expected_tensors()) {
      const bool norm = shape.size() == 1;
      tensors[name] = (norm ? 1 + 0.2 * at::randn(shape) : 0.05 * at::randn(shape)).to(at::kHalf);
    }
    write_shard(path() / "model.safetensors", tensors);
  }
  fs::path path() const { return folder_.path(); }

 private:
  TemporaryFolder folder_;
};

/// The models, and what real runs made of them.
class Artefacts {
 public:
  static const Artefacts& get() {
    static const Artefacts artefacts;
    return artefacts;
  }

  fs::path folder(const std::string& name) const {
    if (fs::exists(out_.path() / name / "manifest.json")) return out_.path() / name;
    const size_t dash = name.find('/');
    return out_.path() / name.substr(0, dash) / name.substr(dash + 1);
  }
  const ModelFolder& model(const std::string& name) const {
    return name == "experts" ? *experts_ : name == "biased" ? *biased_ : *dense_;
  }

 private:
  Artefacts() {
    dense_ = std::make_unique<ModelFolder>(open_model_folder(llama_.path()));
    experts_ = std::make_unique<ModelFolder>(open_model_folder(mixtral_.path()));
    biased_ = std::make_unique<ModelFolder>(open_model_folder(qwen_.path()));
    at::manual_seed(3);
    write_shard(out_.path() / "ids.safetensors", {{"input_ids", at::randint(1, 4096, {8, 64}, at::kLong)}});
    const char* asymmetric = "{bits: 4, group_size: 32, symmetric: false}";
    run("words", "[compressed-tensors, gptq-v2, awq]", asymmetric, "{rtn: {}}");
    run("symmetric", "[gptq, modelopt]", "{bits: 4, group_size: 64, symmetric: true}", "{rtn: {}}");
    run("hqq", "[hqq]", "{bits: 4, group_size: 64, symmetric: false, zero_point: real}", "{hqq: {}}");
    run("floats", "[compressed-tensors, modelopt]",
        "{type: fp8_e4m3, per: channel}, activations: {type: fp8_e4m3, per: token}", "{rtn: {}}");
    run("gguf", "[\"gguf:Q4_0\"]", "{type: float}", "{float: {}}");
    run("shards", "[compressed-tensors]", asymmetric, "{rtn: {}}", "300KB");
    run("experts", "[compressed-tensors]", "{bits: 4, group_size: 32, symmetric: true}", "{rtn: {}}");
    run("spqr", "[spqr]", "{bits: 3, group_size: 16, symmetric: false, scale_bits: 3, scale_group: 16}",
        "{spqr: {}}", "5GB", "[]");
    run("folded", "[compressed-tensors]", asymmetric, "{rtn: {}}", "5GB", "[{awq: {}}]");
    run("gguf_folded", "[\"gguf:Q4_K_M\"]", asymmetric, "{rtn: {}}", "5GB", "[{awq: {clip: false}}]");
    run("static", "[compressed-tensors]",
        "{bits: 8, group_size: -1, symmetric: true}, activations: {type: int, bits: 8, dynamic: false, per: "
        "tensor}",
        "{rtn: {}}", "5GB", "[]", "kv_cache: {type: float, bits: 8, per: tensor}");
    run("nvfp4", "[compressed-tensors]", "{type: nvfp4}, activations: {type: nvfp4}", "{rtn: {}}", "5GB",
        "[]");
    run("biased", "[compressed-tensors]", asymmetric, "{rtn: {}}", "5GB", "[{awq: {}}]");
  }

  /// transforms: with calibration; nullptr: weight by weight.
  void run(const std::string& name, const std::string& formats, const std::string& scheme,
           const std::string& solver, const char* shard_size = "5GB", const char* transforms = nullptr,
           const char* more = "") {
    const fs::path recipe = out_.path() / (name + ".yaml");
    std::ofstream(recipe) << fmt::format(
        "model: {}\noutput: {{path: {}, formats: {}, shard_size: {}}}\ncalibration: {}\ntransforms: {}\n"
        "rules: [{{targets: [linear], scheme: {}, solver: {}}}]\n{}\n",
        model(name).checkpoint->folder().string(), (out_.path() / name).string(), formats, shard_size,
        transforms == nullptr ? "null"
                              : fmt::format("{{data: [{{path: {}}}], samples: 8, seq_len: 64}}",
                                            (out_.path() / "ids.safetensors").string()),
        transforms == nullptr ? "[]" : transforms, scheme, solver, more);
    RunRequest request;
    request.recipe = recipe;
    request.device = "cpu";
    request.quiet = true;
    run_pipeline(request);
  }

  SmallCheckpoint llama_{Json::object()};
  SmallCheckpoint mixtral_{Json{{"model_type", "mixtral"},
                                {"architectures", {"MixtralForCausalLM"}},
                                {"intermediate_size", 64},
                                {"num_local_experts", 4},
                                {"num_experts_per_tok", 2},
                                {"num_hidden_layers", 1}}};
  SmallCheckpoint qwen_{Json{{"model_type", "qwen2"}, {"architectures", {"Qwen2ForCausalLM"}}}};
  TemporaryFolder out_;
  std::unique_ptr<ModelFolder> dense_, experts_, biased_;
};

struct Fault {
  const char* artefact;  // "words/awq": its folder
  const char* name;
  const char* place;                    // that a finding names; "a|b": a or b
  const char *run, *reference, *alone;  // the check that does; "": none; "-": not looked at
  std::function<void(const fs::path&)> inject;
};
inline void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.artefact << ", " << fault.name; }

std::vector<Fault> packed_faults();
std::vector<Fault> config_faults();
std::vector<Fault> file_faults();
std::vector<Fault> gptq_faults();
std::vector<Fault> other_faults();
std::vector<Fault> gguf_faults();

using Tensor = at::Tensor;

/// A fault in tensors of model.safetensors.
inline std::function<void(const fs::path&)> in_tensors(const std::function<void(Tensors&)>& change) {
  return [change](const fs::path& folder) { edit_tensors(folder, change); };
}
inline std::function<void(const fs::path&)> in_tensor(const std::string& name,
                                                      const std::function<void(Tensor&)>& change) {
  return in_tensors([=](Tensors& tensors) { change(tensors.at(name)); });
}
inline std::function<void(const fs::path&)> in_json(const std::string& file,
                                                    const std::function<void(Json&)>& change) {
  return [=](const fs::path& folder) { edit_json(folder / file, change); };
}
inline std::function<void(const fs::path&)> in_quantization(const std::string& pointer, const Json& value) {
  return in_json("config.json", [=](Json& config) {
    config.at("quantization_config")[Json::json_pointer(pointer)] = value;
  });
}
inline std::function<void(const fs::path&)> in_config(const std::string& key, const Json& value) {
  return in_json("config.json", [=](Json& config) { config[key] = value; });
}
inline std::function<void(Tensor&)> flipped(int64_t byte, int bit) {
  return [=](Tensor& tensor) { flip(tensor, byte, bit); };
}
inline std::function<void(Tensor&)> first_is(double value) {
  return [=](Tensor& tensor) { tensor.flatten()[0].fill_(value); };
}
/// All tensors of one module trade places with another's.
inline std::function<void(const fs::path&)> swapped(const std::string& a, const std::string& b) {
  return in_tensors([=](Tensors& tensors) {
    for (auto& [name, tensor] : tensors) {
      if (name.starts_with(a + ".")) std::swap(tensor, tensors.at(b + name.substr(a.size())));
    }
  });
}
inline std::function<void(const fs::path&)> copied(const std::string& from, const std::string& to) {
  return in_tensors([=](Tensors& tensors) {
    for (auto& [name, tensor] : tensors)
      if (name.starts_with(from + ".")) tensors.at(to + name.substr(from.size())) = tensor.clone();
  });
}
inline std::function<void(const fs::path&)> dropped(const std::string& prefix) {
  return in_tensors([=](Tensors& tensors) {
    std::erase_if(tensors, [&](const auto& entry) { return entry.first.starts_with(prefix); });
  });
}
/// The n-th weight file of a folder.
inline fs::path shard(const fs::path& folder, size_t n) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  std::ranges::sort(files);
  return files.at(n);
}
inline constexpr const char* kIndex = "model.safetensors.index.json";

inline const std::string q = "model.layers.0.self_attn.q_proj", k = "model.layers.0.self_attn.k_proj",
                         v = "model.layers.0.self_attn.v_proj", o = "model.layers.0.self_attn.o_proj",
                         up = "model.layers.1.mlp.up_proj", gate = "model.layers.1.mlp.gate_proj",
                         norm = "model.layers.1.input_layernorm.weight",
                         embedding = "model.embed_tokens.weight";

}  // namespace lathe::test
