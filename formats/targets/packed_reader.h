// What every reader of packed linears gives, whatever their layout.
#pragma once

#include <map>
#include <string>

#include "lib/numeric/quantized_tensor.h"
#include "lib/tensor/tensor_view.h"

namespace lathe {

class PackedReader {
 public:
  virtual ~PackedReader() = default;

  /// The packed linears by module name.
  virtual const std::map<std::string, Scheme>& schemes() const = 0;
  /// Unpacks one of them. UserError for a scale that is not finite and positive.
  virtual QuantizedTensor read(const std::string& linear) const = 0;
  /// The checkpoint's tensors with those of each packed linear replaced by the "<linear>.weight" they stand
  /// for.
  virtual std::map<std::string, TensorInfo> unpacked_tensors() const = 0;
};

}  // namespace lathe
