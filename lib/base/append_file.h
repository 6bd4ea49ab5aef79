// A file that grows at its end, and is durable where that is asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace lathe {

/// Move-only. Every error is a UserError naming the file and the system's reason (full disk, too large, ...);
/// what of a piece was written by then stays at its end.
class AppendFile {
 public:
  /// A new file, in place of one that is there.
  static AppendFile create(const std::filesystem::path& path);
  /// The first `bytes` of a file that is there; what follows them is cut off.
  static AppendFile open(const std::filesystem::path& path, uint64_t bytes);
  AppendFile(AppendFile&& other) noexcept;
  AppendFile& operator=(AppendFile&&) = delete;
  /// What was not synced may be lost.
  ~AppendFile();

  /// Small pieces are gathered.
  void append(std::span<const std::byte> bytes);
  /// All of it is with the system: the end of this process costs nothing of it any more.
  void flush();
  /// All of it is on the disk.
  void sync();
  /// What was flushed is on the disk; another thread may append meanwhile.
  void sync_flushed() const;
  /// What was appended counts, whether it was flushed or not.
  uint64_t size() const { return size_ + pending_.size(); }

 private:
  AppendFile(const std::filesystem::path& path, int flags, uint64_t bytes);
  void write(std::span<const std::byte> bytes);

  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
  std::vector<std::byte> pending_;
};

}  // namespace lathe
