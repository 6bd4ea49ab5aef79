// Reads the linears of a GPTQ artefact back, ours or another tool's (layout: gptq.h).
#pragma once

#include <memory>
#include <string>

#include "formats/targets/gptq_config.h"
#include "formats/targets/layout_reader.h"

namespace lathe {

class GptqReader final : public LayoutReader {
 public:
  /// A linear is packed where its qweight is there, in the scheme that the configuration gives it. UserError
  /// naming file, tensor or key. Reads nothing but headers.
  GptqReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph);

  /// UserError for a scale that is not finite and positive, a group index beyond the groups or of groups of
  /// uneven size, zero points that are not the symmetric one where `sym` is true, and those of version 1 that
  /// mean different things to different readers (gptq.h).
  QuantizedTensor read(const std::string& linear) const override;

 private:
  at::Tensor read_zeros(const PlannedLinear& linear) const;
  at::Tensor read_group_index(const PlannedLinear& linear) const;

  GptqConfig config_;
};

}  // namespace lathe
