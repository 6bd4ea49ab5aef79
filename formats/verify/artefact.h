// An artefact's folder, looked at from outside: what can be told from its bytes alone, and what the model
// that it was made of tells besides. One tensor stands in memory at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "formats/targets/model_folder.h"
#include "formats/verify/finding.h"
#include "formats/verify/weight_distance.h"

namespace lathe {

/// What is known beside the artefact.
struct VerifyAgainst {
  const ModelFolder* reference = nullptr;  // the floating-point model; null: not given
  bool folds = true;                       // transforms may have moved scales between linears and norms
  /// Folds are matched channel by channel, too: not in the run, which knows that each value is what was
  /// meant, and would lose hours to one channel that a solver moved far.
  bool fold_channels = true;
  /// Is the linear what its solver meant? Empty: nobody knows.
  std::function<bool(const std::string& linear, const QuantizedTensor& tensor)> meant;
  /// The same of tensors in floating point (FP32; undefined: not finite): nothing for those that no fold
  /// changed. Empty: nobody knows.
  std::function<std::optional<bool>(const std::string& tensor, const std::function<at::Tensor()>& values)>
      meant_fold;
  /// Of a GGUF file, by linear: the scheme of the solver's codes that its blocks hold as they are.
  std::map<std::string, Scheme> codes_in_blocks = {};
  /// Other checks have shown that tensors are those that were written.
  bool bytes_known = false;
};

struct Verified {
  Findings findings;
  std::map<std::string, WeightDistance> distances;  // by linear; with a reference
  int64_t linears = 0, kept = 0;                    // that were looked at
};

/// All checks but those of files, configuration and recipe. `artefact`: a folder in safetensors, with the
/// reference's graph where there is one. An artefact whose linears Lathe has no own unpacking for (formats
/// that it only reads) goes through the reader alone.
Verified verify_artefact(const ModelFolder& artefact, const VerifyAgainst& against);

}  // namespace lathe
