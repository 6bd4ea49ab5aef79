// Every quantised tensor is read back from the bytes on disk, by the reader's own unpacking, and compared
// with what the solver meant. Only hashes are kept meanwhile, so memory doesn't grow with the model.
#pragma once

#include <map>
#include <string>

#include "calib/driver/driver.h"
#include "formats/targets/model_folder.h"

namespace lathe {

/// Of everything in it; equal for equal tensors only.
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
  /// CheckFailed naming the first linear whose codes, scales or zero points on disk differ, or that is
  /// missing.
  void compare(const ModelFolder& artifact) const;

 private:
  std::map<std::string, std::string> hashes_;       // by linear name
  std::map<std::string, KvCacheQuantizer> caches_;  // by attention module
};

}  // namespace lathe
