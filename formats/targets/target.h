// A target: which layout, which tensor names and which config keys one consumer wants. Rows in registry.cc.
#pragma once

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/safetensors/shard_writer.h"
#include "lib/model/graph.h"
#include "lib/numeric/kv_cache.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe {

struct GgufMix;

/// A quantised linear in the plan: enough to know names, shapes and config before anything is computed.
struct PlannedLinear {
  std::string name;  // module name, "model.layers.0.mlp.down_proj"
  int64_t out = 0, in = 0;
  Scheme scheme;
  DType scale_dtype = DType::F16;
  LinearRole role = LinearRole::q_proj;
  bool expert = false;       // one of those among which a router chooses
  bool group_index = false;  // columns belong to groups by QuantizedTensor::group_index
  bool bias = false;
  int64_t outliers = 0;                                        // that its solver kept; 0 until it is solved
  std::optional<ActivationScheme> activations = std::nullopt;  // of its input; none: floating point
};

/// How a target holds the scales of a quantised KV cache.
struct KvCacheFormat {
  std::vector<PlannedTensor> (*layout)(const std::string& attention, const KvCacheScheme& scheme,
                                       const KvCacheShape& shape);
  /// Contents in the order of layout().
  std::vector<std::pair<std::string, at::Tensor>> (*pack)(const std::string& attention,
                                                          const KvCacheQuantizer& quantizer);
  /// Puts the scheme into what Target::quantization_config() gave.
  void (*describe)(const KvCacheScheme& scheme, nlohmann::json& config);
  /// Which consumers won't take it; nothing if all do.
  std::optional<std::string> (*warning)(const KvCacheScheme& scheme);
  /// Why no consumer takes it; nothing if one does.
  std::optional<std::string> (*refuses)(const KvCacheScheme& scheme) = nullptr;
};

struct Target {
  std::string name, summary;
  /// For people, in Markdown: who loads the folder, and how; each way begins "With NAME" (ways_to_load()).
  std::string how_to_load;
  /// Why this target can't hold the scheme for this shape ("group_size 128 does not divide ..."); nothing if
  /// it can.
  std::optional<std::string> (*refuses)(const PlannedLinear& linear);
  /// The tensors that stand for the linear's weight.
  std::vector<PlannedTensor> (*layout)(const PlannedLinear& linear);
  /// Their contents, in the order of layout(): contiguous CPU tensors.
  std::vector<std::pair<std::string, at::Tensor>> (*pack)(const std::string& name,
                                                          const QuantizedTensor& tensor);
  /// The value of config.json's "quantization_config". `ignored`: names of linears left in floating point.
  nlohmann::json (*quantization_config)(const std::vector<PlannedLinear>& linears,
                                        const std::vector<std::string>& ignored);
  /// Files beside config.json that consumers look for, by name; `config` is what quantization_config() gave.
  std::vector<std::pair<std::string, nlohmann::json>> (*side_files)(const nlohmann::json& config) = nullptr;
  /// Why it can't hold these linears in one folder, though it holds each by itself; nothing if it can.
  std::optional<std::string> (*refuses_model)(const std::vector<PlannedLinear>& linears,
                                              const std::vector<std::string>& ignored) = nullptr;
  /// Which consumers won't load the folder, though others do, and why.
  std::vector<std::string> (*warnings)(const std::vector<PlannedLinear>& linears,
                                       const std::vector<std::string>& ignored) = nullptr;
  /// How it holds the scales of a quantised KV cache; null: not at all.
  const KvCacheFormat* kv_cache = nullptr;
  /// It has no number for a zero point at the lowest code: a run's grids keep theirs above it
  /// (Scheme::zero_above_lowest), pack() refuses others.
  bool zero_above_lowest = false;
  /// Plain scales of floating-point grids are stored in FP32, whatever the model's type.
  bool full_scales = false;
  /// Can it say that inputs are rotated (Scheme::hadamard)?
  bool rotations = false;
  /// Do its readers take a quantised lm_head?
  bool head = false;
  /// Ending of a scalar's name that is one for linears of one input, which servers stack: the largest of what
  /// pack() gives for each. Of integer codes only: a global scale is shared when codes are found. Null: none.
  const char* shared_maximum = nullptr;
  /// Where set, the model becomes one GGUF file of these block types, which formats/gguf plans and keys; the
  /// functions above are null.
  const GgufMix* gguf = nullptr;
};

/// gguf:F16, gguf:Q4_K_M, ...
std::vector<Target> gguf_targets();

const std::vector<Target>& targets();
/// "gguf:Q4_K_M" for "gguf:q4_k" and "gguf:Q4_K", as llama.cpp's tools take a type's name; other names as
/// they are.
std::string canonical_format(const std::string& name);
/// "; did you mean 'gguf:Q4_K_M'?" for "gguf:q4km" and "Q4_K_M"; empty where nothing known is near.
std::string suggested_format(const std::string& name, const std::vector<std::string>& known);
/// UserError listing the known ones (with the nearest) for an unknown name.
const Target& find_target(const std::string& name);

}  // namespace lathe
