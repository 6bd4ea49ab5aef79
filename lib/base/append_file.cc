#include "lib/base/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "lib/base/error.h"
#include "lib/base/write_all.h"

namespace lathe {
namespace {

constexpr size_t kGathered = size_t{256} << 10;

}  // namespace

AppendFile AppendFile::create(const std::filesystem::path& path) {
  return AppendFile(path, O_CREAT | O_TRUNC, 0);
}

AppendFile AppendFile::open(const std::filesystem::path& path, uint64_t bytes) {
  return AppendFile(path, 0, bytes);
}

AppendFile::AppendFile(const std::filesystem::path& path, int flags, uint64_t bytes)
    : path_(path.string()), fd_(::open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, 0644)), size_(bytes) {
  if (fd_ < 0) user_error("{}: can't be opened for writing: {}", path_, std::strerror(errno));
  const auto end = static_cast<off_t>(bytes);
  if (::ftruncate(fd_, end) == 0 && ::lseek(fd_, end, SEEK_SET) == end) return;
  const int error = errno;
  ::close(fd_);
  user_error("{}: can't be cut to {} bytes: {}", path_, bytes, std::strerror(error));
}

AppendFile::AppendFile(AppendFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_),
      pending_(std::move(other.pending_)) {}

AppendFile::~AppendFile() {
  if (fd_ >= 0) ::close(fd_);
}

void AppendFile::write(std::span<const std::byte> bytes) {
  if (const int error = write_all(fd_, bytes); error != 0)
    user_error("{}: can't be written: {}", path_, std::strerror(error));
  size_ += bytes.size();
}

void AppendFile::append(std::span<const std::byte> bytes) {
  if (pending_.size() + bytes.size() > kGathered) flush();
  if (bytes.size() > kGathered) return write(bytes);
  pending_.insert(pending_.end(), bytes.begin(), bytes.end());
}

void AppendFile::flush() {
  const std::vector<std::byte> bytes = std::exchange(pending_, {});
  write(bytes);
}

void AppendFile::sync() {
  flush();
  sync_flushed();
}

void AppendFile::sync_flushed() const {
  if (::fdatasync(fd_) != 0) user_error("{}: can't be written: {}", path_, std::strerror(errno));
}

}  // namespace lathe
