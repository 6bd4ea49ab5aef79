// Where a model's weights come from: an FP16 folder, or an artefact that is dequantised on load.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "lib/numeric/activation_scheme.h"
#include "lib/numeric/kv_cache.h"

namespace lathe {

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual bool contains(const std::string& name) const = 0;
  /// FP32, CPU, contiguous, owned by the caller. UserError naming file and tensor on NaN or Inf.
  virtual at::Tensor load(const std::string& name) const = 0;
  /// The same values in the dtype that the file stores them in (F16, BF16 or F32), FP32 where the file holds
  /// no such values: half the bytes to move to a device. CPU, contiguous, owned by the caller.
  virtual at::Tensor load_stored(const std::string& name) const { return load(name); }
  /// The same for some rows of a matrix: `rows` is Long [n], CPU; [n, width]. Sources that can look rows up
  /// without loading the matrix (an embedding's is often larger than a block) do.
  virtual at::Tensor load_rows(const std::string& name, const at::Tensor& rows) const;
  /// Does load_rows() of that matrix cost no more than the rows?
  virtual bool looks_rows_up(const std::string&) const { return false; }
  /// What the input of a linear ("model.layers.0.mlp.up_proj") passes through before the product; nothing
  /// where it stays in floating point.
  virtual std::optional<InputQuantizer> input_quantizer(const std::string&) const { return std::nullopt; }
  /// How the engine that runs the model keeps keys and values of an attention module
  /// ("model.layers.0.self_attn"); nothing where its cache is in floating point.
  virtual std::optional<KvCacheQuantizer> kv_cache(const std::string&) const { return std::nullopt; }
};

}  // namespace lathe
