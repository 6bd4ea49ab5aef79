// Reads the linears of a modelopt artefact back (layout: modelopt.h).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "formats/targets/kv_cache_format.h"
#include "formats/targets/layout_reader.h"
#include "formats/targets/modelopt_config.h"

namespace lathe {

class ModeloptReader final : public LayoutReader {
 public:
  /// A linear is packed where the configuration has a grid for it. UserError naming file, tensor or key.
  /// Reads nothing but headers.
  ModeloptReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph);

  std::optional<KvCacheScheme> kv_cache_scheme() const override { return config_.kv_cache; }
  std::optional<KvCacheQuantizer> kv_cache(const std::string& attention) const override;
  std::map<std::string, ActivationScheme> activations() const override;
  std::optional<InputQuantizer> input_quantizer(const std::string& linear) const override;

  /// UserError for a scale that is not finite and positive, a code that is NaN, and a pre_quant_scale other
  /// than 1 (which would have to be folded into what comes before).
  QuantizedTensor read(const std::string& linear) const override;
  std::map<std::string, TensorInfo> unpacked_tensors() const override;

 private:
  std::optional<PlannedTensor> stored_cache_scale(const std::string& linear) const;
  PlannedLinear stored(const Linear& linear, const ModeloptGrid& grid) const;
  std::vector<PlannedTensor> stored_layout(const PlannedLinear& linear) const;
  void check_pre_quant_scale(const std::string& linear) const;
  at::Tensor scalar(const std::string& name) const;

  ModeloptConfig config_;
  std::optional<StoredKvCache> kv_cache_;
  std::vector<std::string> attentions_;  // whose cache is quantised
};

}  // namespace lathe
