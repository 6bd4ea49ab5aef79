// What the solvers meant, for comparison with what stands on disk. Only hashes are kept, so memory doesn't
// grow with the model.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "calib/driver/driver.h"
#include "formats/targets/model_folder.h"
#include "formats/verify/finding.h"

namespace lathe {

/// Of everything in it; equal for equal tensors only. Zero points count as the numbers that they are: formats
/// have integers, real numbers, or where all are 0 none.
std::string hash_of(const QuantizedTensor& tensor);

class WrittenTensors {
 public:
  /// Remembers what the solvers of a block of this graph meant.
  void note(const ModelGraph& graph, const BlockOutcome& outcome);
  void note(const LinearOutcome& linear);
  void note(const std::string& linear, const QuantizedTensor& tensor);
  void note(const std::string& attention, const KvCacheQuantizer& quantizer) {
    caches_[attention] = quantizer;
  }
  /// Does it hold what was meant, no more and no less? False for a linear that nobody noted.
  bool is_meant(const std::string& linear, const QuantizedTensor& tensor) const;
  /// The same of a tensor in floating point, FP32; nothing where no fold changed it.
  std::optional<bool> is_meant_fold(const std::string& tensor,
                                    const std::function<at::Tensor()>& values) const;
  /// Linears that were noted and the artefact doesn't hold as quantised, and KV caches with other scales.
  Findings compare_rest(const ModelFolder& artifact) const;
  /// Linears whose codes, scales or zero points on disk differ, and compare_rest().
  Findings compare(const ModelFolder& artifact) const;

 private:
  std::map<std::string, std::string> hashes_;       // by linear name
  std::map<std::string, std::string> folded_;       // of FP32 values, by tensor name
  std::map<std::string, KvCacheQuantizer> caches_;  // by attention module
};

/// CheckFailed with the first finding, and the names of those behind it, sixteen at most.
void require_none(const Findings& findings);

}  // namespace lathe
