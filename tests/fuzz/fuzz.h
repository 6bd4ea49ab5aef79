// Fuzzing: what every target has in common.
//
// A target reads bytes that nobody vouches for with one of Lathe's readers. It promises: the reader takes
// them, or throws a UserError. Anything else is a finding: another exception, what AddressSanitizer and
// UndefinedBehaviorSanitizer see, memory or time that the input's size doesn't bound.
//
// entry.cc is libFuzzer's entry point (https://llvm.org/docs/LibFuzzer.html) around a target; replay.cc runs
// it without libFuzzer.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace lathe::fuzz {

/// The target: each tests/fuzz/<name>.cc defines it.
void read(std::string_view input);

/// Inputs so far that ended in a UserError.
extern size_t refused;

/// A folder of this process's own, in memory where there is a /dev/shm; removed at the end.
class Folder {
 public:
  Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder();
  const std::filesystem::path& path() const { return path_; }
  /// Writes a file, in place of one that is there, and returns its path.
  std::filesystem::path put(const char* name, std::string_view contents) const;

 private:
  std::filesystem::path path_;
};

}  // namespace lathe::fuzz
