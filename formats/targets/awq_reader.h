// Reads the linears of an AWQ artefact back, ours or another tool's (layout: awq.h).
#pragma once

#include <memory>
#include <string>

#include "formats/targets/awq_config.h"
#include "formats/targets/layout_reader.h"

namespace lathe {

class AwqReader final : public LayoutReader {
 public:
  /// A linear is packed where its qweight is there. UserError naming file, tensor or key. Reads nothing but
  /// headers.
  AwqReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph);

  /// UserError for a scale that is not finite and positive, and for zero points that are not those of
  /// symmetric weights where the configuration says that all are.
  QuantizedTensor read(const std::string& linear) const override;

 private:
  AwqConfig config_;
};

}  // namespace lathe
