// --max-ram while a file of text or ids is read: before anything is planned.
#pragma once

#include <cstdint>
#include <filesystem>

namespace lathe {

/// Blames a file only for what reading it has added: 16 MiB or more since this was made. A limit that the
/// program by itself exceeds is refused by the plan of the run, which knows the least that would do.
class ReadingLimit {
 public:
  /// `max_ram` bytes of this process; 0: any. `file` must outlive this.
  ReadingLimit(uint64_t max_ram, const std::filesystem::path& file);
  /// UserError, naming the file, its bytes and what to do, where the process has taken more than the limit.
  void check() const;

 private:
  uint64_t max_ram_, before_;
  const std::filesystem::path& file_;
};

}  // namespace lathe
