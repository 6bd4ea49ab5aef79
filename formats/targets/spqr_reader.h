// Reads the linears of a SpQR artefact back (layout: spqr.h).
#pragma once

#include <memory>

#include "formats/safetensors/checkpoint.h"
#include "formats/targets/packed_reader.h"
#include "lib/model/graph.h"

namespace lathe {

class SpqrReader final : public PackedReader {
 public:
  /// Checks the checkpoint's quantization_config, and names, shapes and dtypes of every packed tensor against
  /// it and the graph. UserError naming file, tensor or key. Reads nothing but headers.
  SpqrReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph);

  /// UserError for tiles, offsets, columns or numbers that no writer makes.
  QuantizedTensor read(const std::string& linear) const override;
  std::map<std::string, TensorInfo> unpacked_tensors() const override;

 private:
  void check_packed(const Linear& linear) const;
  void check_tensor(const std::string& name, const TensorInfo& expected) const;
  void check_names(const Linear& linear, bool packed) const;
  at::Tensor read_order(const std::string& name, int64_t in) const;
  Outliers read_outliers(const std::string& linear, const at::Tensor& order) const;

  std::shared_ptr<const Checkpoint> checkpoint_;
  DType float_dtype_;
  std::map<std::string, Linear> linears_;
};

}  // namespace lathe
