// Reads the linears of an hqq artefact back (layout: hqq.h).
#pragma once

#include <map>
#include <memory>
#include <string>

#include "formats/safetensors/checkpoint.h"
#include "formats/targets/packed_reader.h"
#include "formats/targets/target.h"
#include "lib/model/graph.h"

namespace lathe {

class HqqReader final : public PackedReader {
 public:
  /// A linear is packed where its W_q is there: its own tensors say how, not quantization_config. UserError
  /// naming file and tensor where they are missing, of another shape than the graph says, or of a kind that
  /// Lathe doesn't read (scales that are quantised themselves, codes viewed as floats).
  HqqReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph);

  QuantizedTensor read(const std::string& linear) const override;
  std::map<std::string, TensorInfo> unpacked_tensors() const override;

 private:
  PlannedLinear read_facts(const Linear& linear) const;
  int64_t number(const std::string& name) const;
  void check(const PlannedLinear& linear) const;
  at::Tensor parameters(const PlannedLinear& linear, const char* suffix) const;

  std::shared_ptr<const Checkpoint> checkpoint_;
  DType float_dtype_;
  std::map<std::string, PlannedLinear> linears_;
};

}  // namespace lathe
