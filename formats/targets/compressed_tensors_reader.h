// Reads the linears of a compressed-tensors artefact back (layout: compressed_tensors.h).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "formats/safetensors/checkpoint.h"
#include "formats/targets/kv_cache_format.h"
#include "formats/targets/packed_reader.h"
#include "formats/targets/target.h"
#include "lib/model/graph.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe {

class CompressedTensorsReader final : public PackedReader {
 public:
  /// Parses the checkpoint's quantization_config and checks names, shapes and dtypes of every packed tensor
  /// against the graph. UserError naming file, tensor or key. Reads nothing but headers and the weight_shape
  /// tensors.
  CompressedTensorsReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph);

  std::map<std::string, ActivationScheme> activations() const override { return activations_; }
  std::optional<InputQuantizer> input_quantizer(const std::string& linear) const override;
  std::optional<KvCacheScheme> kv_cache_scheme() const override {
    return kv_cache_ ? std::optional(kv_cache_->scheme) : std::nullopt;
  }
  std::optional<KvCacheQuantizer> kv_cache(const std::string& attention) const override;

  /// Unpacks one of them. UserError for a scale that is not finite and positive, or a code beyond its bits.
  QuantizedTensor read(const std::string& linear) const override;

  /// The checkpoint's tensors with those of each packed linear replaced by the "<linear>.weight" they stand
  /// for.
  std::map<std::string, TensorInfo> unpacked_tensors() const override;

 private:
  /// Of integers: a code a byte?
  bool in_bytes(const std::string& linear) const { return in_bytes_.contains(linear); }
  PlannedLinear planned(const Linear& linear, const Scheme& scheme) const;
  void check_float_quantized(const Linear& linear, const Scheme& scheme) const;
  at::Tensor read_global(const std::string& name) const;
  QuantizedTensor read_float_quantized(const std::string& linear, QuantizedTensor tensor) const;
  void check_packed(const Linear& linear, const Scheme& scheme) const;
  void check_int_quantized(const Linear& linear, const Scheme& scheme) const;
  void check_groups(const Linear& linear, const Scheme& scheme) const;
  void check_scale(const std::string& name, std::vector<int64_t> shape) const;
  void check_tensor(const std::string& name, const TensorInfo& expected) const;
  void check_shape_tensor(const Linear& linear) const;
  void check_rotation(const Linear& linear, int64_t block) const;
  void check_names(const Linear& linear, const Scheme* scheme) const;
  at::Tensor read_scales(const std::string& name) const;
  at::Tensor read_bytes(const std::string& name, const Scheme& scheme) const;

  std::shared_ptr<const Checkpoint> checkpoint_;
  DType float_dtype_;
  std::map<std::string, ActivationScheme> activations_;
  std::map<std::string, Linear> linears_;
  std::set<std::string> in_bytes_;
  std::optional<StoredKvCache> kv_cache_;
  std::string rotation_suffix_;          // ".hadamard_input.weight"; empty: no input is rotated
  std::vector<std::string> attentions_;  // with scales of their cache
};

}  // namespace lathe
