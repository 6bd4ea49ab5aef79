// A small Llama artefact in a temporary folder, made by RTN through the target under test; tests corrupt it
// before it is written. And the golden files.
#pragma once

#include <ATen/ATen.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "formats/safetensors/safetensors_header.h"
#include "formats/safetensors/shard_writer.h"
#include "formats/targets/model_folder.h"
#include "formats/targets/target.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/model/graph.h"
#include "lib/tensor/aten.h"
#include "tests/unit/kernels/rounded.h"

namespace lathe::test {

namespace fs = std::filesystem;

/// A folder that goes away with the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "lathe-targets-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// Every tensor of a safetensors file, copied.
inline std::map<std::string, at::Tensor> read_safetensors(const fs::path& path) {
  const MappedFile file = MappedFile::open(path);
  std::map<std::string, at::Tensor> tensors;
  for (const StoredTensor& stored : parse_safetensors_header(file.bytes(), path.string()).tensors) {
    tensors[stored.name] =
        borrow({stored.info, file.bytes().subspan(stored.begin, stored.end - stored.begin)}).clone();
  }
  return tensors;
}

inline nlohmann::json tiny_llama_config() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"dtype", "float16"},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 16},
          {"vocab_size", 50},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},
          {"hidden_act", "silu"},
          {"attention_bias", false},
          {"mlp_bias", false},
          {"tie_word_embeddings", false},
          {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 10000.0}}}};
}

/// What will be written: floating-point tensors first, packed ones after pack().
struct Artefact {
  nlohmann::json config = tiny_llama_config();
  ModelGraph graph = build_graph(parse_model_config(config, "config.json"));
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, QuantizedTensor> quantized;  // by module name
  std::string format = "compressed-tensors";         // that pack() writes
  DType scale_dtype = DType::F16;                    // of plain scales

  Artefact() { fill(); }

  /// Of another config.
  explicit Artefact(nlohmann::json other)
      : config(std::move(other)), graph(build_graph(parse_model_config(config, "config.json"))) {
    fill();
  }

  void fill() {
    at::manual_seed(7);
    for (const auto& [name, shape] : graph.expected_tensors())
      tensors[name] = at::randn(shape).mul_(0.1).to(at::kHalf);
  }

  /// Quantises each block's linears for which `scheme_of` has a scheme.
  /// `input_of`: the quantiser of its input; may be empty.
  void pack(const std::function<std::optional<Scheme>(const Linear&)>& scheme_of,
            const std::function<std::optional<InputQuantizer>(const Linear&)>& input_of = {}) {
    const Target& target = find_target(format);
    std::vector<PlannedLinear> planned;
    std::vector<std::string> ignored;
    for (const Block& block : graph.blocks) {
      for (const Linear& linear : block.linears) {
        const auto scheme = scheme_of(linear);
        if (!scheme) {
          ignored.push_back(linear.name);
          continue;
        }
        const std::optional<InputQuantizer> input = input_of ? input_of(linear) : std::nullopt;
        planned.push_back(
            {linear.name, linear.out, linear.in, *scheme, scheme->scale_type(scale_dtype), linear.role});
        if (input) planned.back().activations = input->scheme;
        const at::Tensor weight = tensors.at(linear.name + ".weight").to(at::kFloat);
        quantized[linear.name] = round_to_nearest(weight, *scheme, scale_dtype);
        quantized[linear.name].input = input;
        tensors.erase(linear.name + ".weight");
        for (const auto& [name, tensor] : target.pack(linear.name, quantized.at(linear.name)))
          tensors[name] = tensor;
      }
    }
    ignored.push_back("lm_head");
    config["quantization_config"] = target.quantization_config(planned, ignored);
  }

  void write(const fs::path& folder) const {
    std::vector<PlannedTensor> planned;
    for (const auto& [name, tensor] : tensors) planned.push_back({name, info_of(tensor)});
    ShardWriter writer(plan_shards(planned, 1 << 30), folder);
    for (const auto& [name, tensor] : tensors) writer.write(name, bytes_of(tensor));
    writer.finish();
    std::ofstream(folder / "config.json") << config.dump(2);
  }
};

/// What opening the artefact and reading every quantised linear is refused with; empty where it is not.
inline std::string reading_error(const Artefact& artefact) {
  const TemporaryFolder folder;
  artefact.write(folder.path());
  try {
    const ModelFolder opened = open_model_folder(folder.path());
    for (const auto& [name, scheme] : opened.schemes) opened.read_quantized(name);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

}  // namespace lathe::test
