// A nameless temporary file for what does not fit in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace lathe {

/// Lives in a folder's file system without a name, so that nothing is left behind however the process ends.
/// All of its space is taken when it is made: a full disk is found before hours of work, not after.
/// Move-only. Every error is a UserError naming the folder and the bytes.
class ScratchFile {
 public:
  /// UserError where the folder is missing, can't be written to, or has not `bytes` to give.
  ScratchFile(const std::filesystem::path& folder, uint64_t bytes);
  ScratchFile(ScratchFile&& other) noexcept;
  ScratchFile& operator=(ScratchFile&& other) noexcept;
  ~ScratchFile();

  /// Whole ranges, or a UserError. InternalError beyond the size that was reserved.
  void read(uint64_t offset, std::span<std::byte> bytes) const;
  void write(uint64_t offset, std::span<const std::byte> bytes) const;
  /// Tells the system that this range is read next; it may fetch it meanwhile.
  void will_read(uint64_t offset, uint64_t bytes) const;

  uint64_t size() const { return size_; }

 private:
  void check_range(uint64_t offset, uint64_t bytes) const;
  [[noreturn]] void fail(const char* action, uint64_t bytes, int error) const;

  std::string folder_;
  uint64_t size_ = 0;
  int fd_ = -1;
};

/// The most bytes that this process's scratch files, and what CountedScratch adds, have taken together.
uint64_t peak_scratch_bytes();

/// Bytes of temporary files that have names, for that count.
class CountedScratch {
 public:
  CountedScratch() = default;
  CountedScratch(const CountedScratch&) = delete;
  CountedScratch& operator=(const CountedScratch&) = delete;
  ~CountedScratch() { set(0); }
  void set(uint64_t bytes);

 private:
  uint64_t bytes_ = 0;
};

/// Bytes that an unprivileged process can still write to the folder's file system; the folder must exist
/// (UserError).
uint64_t free_disk_bytes(const std::filesystem::path& folder);

}  // namespace lathe
