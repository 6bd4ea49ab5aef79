#include "formats/targets/model_folder.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "formats/safetensors/json_text.h"
#include "formats/targets/aqlm_reader.h"
#include "formats/targets/awq_reader.h"
#include "formats/targets/bitnet_reader.h"
#include "formats/targets/bitsandbytes_reader.h"
#include "formats/targets/compressed_tensors_reader.h"
#include "formats/targets/float_reader.h"
#include "formats/targets/fp8_reader.h"
#include "formats/targets/gguf_folder.h"
#include "formats/targets/gptq_reader.h"
#include "formats/targets/hqq_reader.h"
#include "formats/targets/kv_cache_file.h"
#include "formats/targets/modelopt_reader.h"
#include "formats/targets/qtip_reader.h"
#include "formats/targets/quip_reader.h"
#include "formats/targets/spqr_reader.h"
#include "formats/targets/vptq_reader.h"
#include "lib/base/error.h"
#include "lib/kernels/dequantize.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

constexpr std::string_view kWeight = ".weight";

/// Tensors as they stand in a floating-point checkpoint; weights of packed linears dequantised.
class FolderWeights : public WeightSource {
 public:
  FolderWeights(std::shared_ptr<const Checkpoint> checkpoint, std::shared_ptr<const PackedReader> packed)
      : checkpoint_(std::move(checkpoint)), packed_(std::move(packed)) {}

  bool contains(const std::string& name) const override {
    return checkpoint_->contains(name) || is_packed(name);
  }

  at::Tensor load(const std::string& name) const override {
    if (!is_packed(name)) return read_float_tensor(*checkpoint_, name);
    const at::Tensor values = kernels::dequantized_weight(packed_->read(linear_of(name))).contiguous();
    if (all_finite(values)) return values;
    user_error(
        "{}: '{}': the value at {} is infinite: its scales are beyond any weight's; the artefact is damaged: "
        "fetch or make it again",
        checkpoint_->folder().string(), name, first_index(at::isfinite(values).logical_not()));
  }

  at::Tensor load_stored(const std::string& name) const override {
    return is_packed(name) ? load(name) : read_stored_tensor(*checkpoint_, name);
  }

  std::optional<InputQuantizer> input_quantizer(const std::string& linear) const override {
    return packed_ == nullptr ? std::nullopt : packed_->input_quantizer(linear);
  }

  std::optional<KvCacheQuantizer> kv_cache(const std::string& attention) const override {
    return packed_ == nullptr ? std::nullopt : packed_->kv_cache(attention);
  }

  at::Tensor load_rows(const std::string& name, const at::Tensor& rows) const override {
    if (is_packed(name)) return WeightSource::load_rows(name, rows);
    return read_float_rows(*checkpoint_, name, rows);
  }

  bool looks_rows_up(const std::string& name) const override { return !is_packed(name); }

 private:
  static std::string linear_of(const std::string& name) {
    return name.substr(0, name.size() - kWeight.size());
  }

  bool is_packed(const std::string& name) const {
    return packed_ != nullptr && name.ends_with(kWeight) && packed_->schemes().contains(linear_of(name));
  }

  std::shared_ptr<const Checkpoint> checkpoint_;
  std::shared_ptr<const PackedReader> packed_;
};

/// Everybody downstream sees the names that the graph gives, whatever release wrote the checkpoint.
void unify_spellings(const ModelGraph& graph, Checkpoint& checkpoint) {
  std::vector<std::pair<std::string, std::string>> changes;
  for (const auto& [name, info] : checkpoint.tensors()) {
    const auto change = std::ranges::find_if(
        graph.spellings, [&](const SpellingChange& spelling) { return name.starts_with(spelling.from); });
    if (change == graph.spellings.end()) continue;
    changes.emplace_back(name, std::string(change->to) + name.substr(change->from.size()));
  }
  for (const auto& [from, to] : changes) checkpoint.rename(from, to);
}

/// Everybody downstream sees one weight for each linear, under the name that the graph gives it.
void split_stacked_tensors(const ModelGraph& graph, Checkpoint& checkpoint) {
  for (const auto& [name, linears] :
       graph.stacked_tensors(checkpoint.tensors(), checkpoint.folder().string())) {
    std::vector<Checkpoint::Part> parts;
    for (const Linear* linear : linears) {
      parts.push_back({linear->name + ".weight", linear->out, linear->stored->first_row});
    }
    checkpoint.split(name, parts);
  }
}

/// QuIP# and QTIP have no quantization_config.
bool has_quip_params(const nlohmann::json& config) {
  const auto found = config.find("quip_params");
  return found != config.end() && found->is_object() && !config.contains("quantization_config");
}

}  // namespace

bool is_quantized(const Checkpoint& checkpoint) {
  const auto& config = checkpoint.config();
  if (has_quip_params(config)) return true;
  const auto entry = config.find("quantization_config");
  if (entry == config.end() || entry->is_null()) return false;
  const auto method = entry->is_object() ? entry->find("quant_method") : entry->end();
  if (!entry->is_object() || method == entry->end()) {
    user_error("{}: expected an object with the key 'quant_method', found {}",
               checkpoint.quantization_place(), quote_text(entry->dump()));
  }
  return true;
}

QuantizedTensor ModelFolder::read_quantized(const std::string& linear) const {
  LATHE_ASSERT(packed != nullptr, "{}: a floating-point folder has no packed linears",
               checkpoint->folder().string());
  return packed->read(linear);
}

namespace {

std::shared_ptr<const PackedReader> open_packed(const std::shared_ptr<const Checkpoint>& checkpoint,
                                                const ModelGraph& graph) {
  if (has_quip_params(checkpoint->config())) {
    if (checkpoint->config().at("quip_params").contains("decode_mode"))
      return std::make_shared<const QtipReader>(checkpoint, graph);
    return std::make_shared<const QuipReader>(checkpoint, graph);
  }
  const nlohmann::json& method = checkpoint->config().at("quantization_config").at("quant_method");
  if (method == "compressed-tensors")
    return std::make_shared<const CompressedTensorsReader>(checkpoint, graph);
  if (method == "gptq") return std::make_shared<const GptqReader>(checkpoint, graph);
  if (method == "awq") return std::make_shared<const AwqReader>(checkpoint, graph);
  if (method == "modelopt") return std::make_shared<const ModeloptReader>(checkpoint, graph);
  if (method == "hqq") return std::make_shared<const HqqReader>(checkpoint, graph);
  if (method == "spqr") return std::make_shared<const SpqrReader>(checkpoint, graph);
  if (method == "bitnet") return std::make_shared<const BitnetReader>(checkpoint, graph);
  if (method == "aqlm") return std::make_shared<const AqlmReader>(checkpoint, graph);
  if (method == "vptq") return std::make_shared<const VptqReader>(checkpoint, graph);
  if (method == "bitsandbytes") return std::make_shared<const BitsandbytesReader>(checkpoint, graph);
  if (method == "fp8") return std::make_shared<const Fp8Reader>(checkpoint, graph);
  user_error(
      "{}.quant_method: expected compressed-tensors, gptq, awq, modelopt, hqq, spqr, bitnet, aqlm, "
      "vptq, bitsandbytes or fp8, "
      "found {}; use an artefact of that kind, or the original floating-point model",
      checkpoint->quantization_place(),
      quote_text(method.is_string() ? method.get<std::string>() : method.dump()));
}

/// Opens the packed linears, and the weights that they and the others stand for.
void read_packed(ModelFolder& model) {
  model.quantized = is_quantized(*model.checkpoint);
  if (model.quantized) {
    model.packed = open_packed(model.checkpoint, model.graph);
    model.schemes = model.packed->schemes();
    model.activations = model.packed->activations();
  }
  model.weights = std::make_unique<FolderWeights>(model.checkpoint, model.packed);
  if (model.packed != nullptr) model.kv_cache = model.packed->kv_cache_scheme();
}

/// The cache of fewer than 8 bits that stands beside the weights, if one does.
ModelFolder with_own_cache(ModelFolder model, const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / kKvCacheFile;
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return model;
  if (model.kv_cache)
    user_error("{}: config.json has a KV cache, too ({}): remove one of them", file.string(),
               model.kv_cache->describe());
  return with_kv_cache(std::move(model), file);
}

}  // namespace

ModelFolder open_model_folder(const std::filesystem::path& folder) {
  if (const auto file = find_gguf_model(folder)) return open_gguf_model(*file);
  ModelFolder result;
  auto opened = std::make_shared<Checkpoint>(Checkpoint::open(folder));
  result.graph = build_graph(parse_model_config(opened->config(), (folder / "config.json").string()));
  unify_spellings(result.graph, *opened);
  split_stacked_tensors(result.graph, *opened);
  result.checkpoint = opened;
  const Checkpoint& checkpoint = *result.checkpoint;
  read_packed(result);
  check_tensors(result.graph, result.quantized ? result.packed->unpacked_tensors() : checkpoint.tensors(),
                folder.string());
  return with_own_cache(std::move(result), folder);
}

ModelFolder open_model_folder(const std::filesystem::path& folder, const ModelGraph& graph) {
  ModelFolder result;
  result.checkpoint = std::make_shared<const Checkpoint>(Checkpoint::open(folder));
  result.graph = graph;
  read_packed(result);
  return with_own_cache(std::move(result), folder);
}

ModelFolder with_kv_cache(ModelFolder model, const std::filesystem::path& file) {
  KvCacheLayers cache = read_kv_cache_file(file, model.graph, *model.weights);
  model.kv_cache = cache.scheme;
  model.weights = with_kv_cache(std::move(model.weights), std::move(cache));
  return model;
}

}  // namespace lathe
