// One process at a time.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace lathe {

/// An advisory lock (flock) by a file that is made where it is missing, and removed with the lock. It ends
/// with its process, however that ends: what is left of the file then holds nobody up. Move-only.
class FileLock {
 public:
  /// Nothing where somebody else holds it. UserError naming the file where it can't be made. A file system
  /// that knows no locks gives one to everybody.
  static std::optional<FileLock> try_take(const std::filesystem::path& path);
  /// The process that holds it, as the file says: "process 1234"; "another process" where it says nothing.
  static std::string holder(const std::filesystem::path& path);
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  FileLock(std::filesystem::path path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::filesystem::path path_;
  int fd_ = -1;
};

}  // namespace lathe
