// Any folder that Lathe can run: a floating-point checkpoint, or one of our artefacts (dequantised on load).
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "formats/safetensors/checkpoint.h"
#include "lib/model/graph.h"
#include "lib/model/weight_source.h"
#include "lib/numeric/kv_cache.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe {

class GgufFile;
class PackedReader;

struct ModelFolder {
  std::shared_ptr<const Checkpoint> checkpoint;
  ModelGraph graph;
  std::unique_ptr<WeightSource> weights;
  bool quantized = false;
  /// Packed linears by module name, unpacked on demand; empty for a floating-point folder.
  std::map<std::string, Scheme> schemes;
  /// Of those whose input is quantised, too.
  std::map<std::string, ActivationScheme> activations;
  /// Null for a floating-point folder.
  std::shared_ptr<const PackedReader> packed;
  /// How its KV cache is kept, by config.json or by kKvCacheFile; nothing: in floating point.
  std::optional<KvCacheScheme> kv_cache;

  /// Where it came from a GGUF file: that file.
  std::shared_ptr<const GgufFile> gguf;

  /// Where its tokenizer stands: the folder, or that of the file.
  std::filesystem::path tokenizer_folder() const {
    return gguf == nullptr ? checkpoint->folder() : checkpoint->folder().parent_path();
  }

  /// Codes, scales and zero points of a linear named in `schemes`, as they stand in the file. UserError for a
  /// scale that is not finite and positive.
  QuantizedTensor read_quantized(const std::string& linear) const;
};

/// Opens, parses config.json, builds the graph, checks every tensor's name, shape and dtype. Milliseconds.
/// UserError for an unsupported family or quant_method.
ModelFolder open_model_folder(const std::filesystem::path& folder);
/// The same of a folder whose graph is `graph`, not what its config.json says; only packed linears are
/// checked against it. For weights_graph()s.
ModelFolder open_model_folder(const std::filesystem::path& folder, const ModelGraph& graph);
/// The same model as a floating-point folder: its packed linears are the weights that they stand for, one at
/// a time, in the config's type where they are copied and in FP32 where they are computed with; inputs and KV
/// cache are not rounded. UserError where a value is beyond that type, and for an FP8 tensor that is no
/// linear's. (dequantised_folder.h)
ModelFolder dequantised_folder(ModelFolder model);
/// The same model with the KV cache of a file (kv_cache_file.h) in place of its own. UserError for one that
/// isn't this model's.
ModelFolder with_kv_cache(ModelFolder model, const std::filesystem::path& file);
/// Is there a quantization_config (QuIP#, QTIP: quip_params)? UserError for a method that Lathe doesn't read.
bool is_quantized(const Checkpoint& checkpoint);

}  // namespace lathe
