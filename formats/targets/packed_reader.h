// Reads the quantised linears of an artefact back: one class for each way in which they are stored.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "lib/numeric/kv_cache.h"
#include "lib/numeric/quantized_tensor.h"
#include "lib/tensor/tensor_view.h"

namespace lathe {

class PackedReader {
 public:
  virtual ~PackedReader() = default;

  /// The packed linears by module name.
  const std::map<std::string, Scheme>& schemes() const { return schemes_; }

  /// Those among them whose input is quantised, too, ...
  virtual std::map<std::string, ActivationScheme> activations() const { return {}; }
  /// ... and how, of any linear; nothing where its input stays in floating point. UserError for a static
  /// scale that is not finite and positive.
  virtual std::optional<InputQuantizer> input_quantizer(const std::string&) const { return std::nullopt; }

  /// How the KV cache is quantised; nothing where it is in floating point.
  virtual std::optional<KvCacheScheme> kv_cache_scheme() const { return std::nullopt; }
  /// ... with the scales of an attention module ("model.layers.0.self_attn"). UserError for one that is not
  /// finite and positive.
  virtual std::optional<KvCacheQuantizer> kv_cache(const std::string&) const { return std::nullopt; }

  /// Does Lathe read the format alone? Then a folder in it may be quantised anew from the weights it stands
  /// for.
  virtual bool read_alone() const { return false; }

  /// Unpacks one of them. UserError for a scale that means nothing.
  virtual QuantizedTensor read(const std::string& linear) const = 0;

  /// The checkpoint's tensors with those of each packed linear replaced by the "<linear>.weight" they stand
  /// for.
  virtual std::map<std::string, TensorInfo> unpacked_tensors() const = 0;

 protected:
  std::map<std::string, Scheme> schemes_;
};

}  // namespace lathe
