// A reader of artefacts whose tensors are those that a layout function names: what GPTQ and AWQ share.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "formats/safetensors/checkpoint.h"
#include "formats/targets/packed_reader.h"
#include "formats/targets/target.h"
#include "lib/model/graph.h"

namespace lathe {

class LayoutReader : public PackedReader {
 public:
  std::map<std::string, TensorInfo> unpacked_tensors() const override;

 protected:
  LayoutReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph);

  /// A linear of the graph as it would be planned; its scales have the type of `<linear>.scales` in the file.
  PlannedLinear planned(const Linear& linear, const Scheme& scheme) const;
  /// Takes a linear as stored in `tensors`. UserError naming file and tensor where one of them is missing
  /// (but for those whose name ends in `optional`) or of another type or shape, or where another one but a
  /// bias stands beside them.
  void add(const PlannedLinear& linear, const std::vector<PlannedTensor>& tensors,
           const std::string& optional = "");
  /// UserError where tensors of a packed linear stand beside one in floating point.
  void check_floating(const Linear& linear, const std::vector<const char*>& suffixes) const;

  /// A tensor that may be F16, BF16 or F32: as it stands in the file, F16 where it is missing or of another.
  PlannedTensor of_floats(const std::string& name, std::vector<int64_t> shape) const;

  const PlannedLinear& linear(const std::string& name) const;
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  /// Checkpoint::quantization_place().
  std::string where() const;
  /// Contents, shared with the mapped file: release() when they have been used.
  at::Tensor words(const std::string& name) const;
  void release(const std::string& name) const { checkpoint_->release(name); }
  /// Float. UserError for one that is not finite and positive. `columns`: of the matrix's first columns only.
  at::Tensor positive_scales(const std::string& name, int64_t columns = -1) const;

 private:
  std::shared_ptr<const Checkpoint> checkpoint_;
  DType float_dtype_;
  std::map<std::string, PlannedLinear> linears_;
  std::vector<std::string> packed_tensors_;
};

}  // namespace lathe
