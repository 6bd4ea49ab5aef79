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
  /// Remembers what a block's solvers meant.
  void note(const BlockOutcome& outcome);
  void note(const LinearOutcome& linear);
  void note(const std::string& linear, const QuantizedTensor& tensor);
  /// CheckFailed naming the first linear whose codes, scales or zero points on disk differ, or that is
  /// missing.
  void compare(const ModelFolder& artifact) const;

 private:
  std::map<std::string, std::string> hashes_;  // by linear name
};

}  // namespace lathe
