// The linears of an FP8 checkpoint: config.json's quantization_config, a NUL, and model.safetensors, of a
// Llama of one block with 8 channels.
#include "formats/targets/fp8_reader.h"

#include <nlohmann/json.hpp>

#include "tests/fuzz/fuzz.h"

namespace lathe {
namespace {

constexpr const char* kModel =
    R"("architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16", "hidden_size": 8,
       "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
       "head_dim": 4, "vocab_size": 16, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu",
       "tie_word_embeddings": true, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4})";

ModelGraph small_llama() {
  return build_graph(
      parse_model_config(nlohmann::json::parse(std::string("{") + kModel + "}"), "config.json"));
}

}  // namespace
}  // namespace lathe

void lathe::fuzz::read(std::string_view input) {
  static const Folder folder;
  static const ModelGraph graph = small_llama();
  const size_t end = std::min(input.find('\0'), input.size());
  folder.put("config.json", std::string("{") + kModel +
                                ", \"quantization_config\": " + std::string(input.substr(0, end)) + "}");
  folder.put("model.safetensors", input.substr(std::min(end + 1, input.size())));
  const auto checkpoint = std::make_shared<const Checkpoint>(Checkpoint::open(folder.path()));
  const Fp8Reader reader(checkpoint, graph);
  for (const auto& [linear, scheme] : reader.schemes()) reader.read(linear).dequantize();
  reader.unpacked_tensors();
}
