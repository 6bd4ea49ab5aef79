#include "lib/base/scratch_file.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "lib/base/write_all.h"

namespace lathe {
namespace {

constexpr size_t kMaxTransfer = size_t{1} << 30;  // Linux moves at most 2 GiB - 4 KiB a call

std::atomic<uint64_t> taken = 0, most_taken = 0;

void take(uint64_t bytes) {
  const uint64_t now = taken += bytes;
  for (uint64_t most = most_taken; now > most && !most_taken.compare_exchange_weak(most, now);) {
  }
}

/// O_TMPFILE makes a file without a name; file systems that lack it (NFS, some overlays) get one that is
/// unlinked at once.
int open_nameless(const std::string& folder) {
  int fd = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
  std::string name = folder + "/.lathe-scratch-XXXXXX";
  fd = ::mkostemp(name.data(), O_CLOEXEC);
  if (fd >= 0) ::unlink(name.c_str());
  return fd;
}

}  // namespace

ScratchFile::ScratchFile(const std::filesystem::path& folder, uint64_t bytes)
    : folder_(folder.string()), size_(bytes), fd_(open_nameless(folder_)) {
  if (fd_ < 0) fail("created for", bytes, errno);
  if (const int error = reserve_room(fd_, bytes); error != 0) {
    ::close(fd_);
    fd_ = -1;
    fail("given", bytes, error);
  }
  take(size_);
}

ScratchFile::ScratchFile(ScratchFile&& other) noexcept
    : folder_(std::move(other.folder_)),
      size_(std::exchange(other.size_, 0)),
      fd_(std::exchange(other.fd_, -1)) {}

ScratchFile& ScratchFile::operator=(ScratchFile&& other) noexcept {
  std::swap(folder_, other.folder_);
  std::swap(size_, other.size_);
  std::swap(fd_, other.fd_);
  return *this;
}

ScratchFile::~ScratchFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  taken -= size_;
}

void ScratchFile::fail(const char* action, uint64_t bytes, int error) const {
  user_error("work folder {}: a temporary file can't be {} {} ({} bytes of {}): {}; choose another --work",
             folder_, action, human_bytes(bytes), bytes, size_, std::strerror(error));
}

void ScratchFile::check_range(uint64_t offset, uint64_t bytes) const {
  LATHE_ASSERT(offset <= size_ && bytes <= size_ - offset, "scratch file of {}: {} bytes at {}", size_, bytes,
               offset);
}

void ScratchFile::read(uint64_t offset, std::span<std::byte> bytes) const {
  check_range(offset, bytes.size());
  while (!bytes.empty()) {
    const ssize_t n =
        ::pread(fd_, bytes.data(), std::min(bytes.size(), kMaxTransfer), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail("read back:", bytes.size(), n < 0 ? errno : EIO);
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
}

void ScratchFile::write(uint64_t offset, std::span<const std::byte> bytes) const {
  check_range(offset, bytes.size());
  if (const int error = write_all_at(fd_, offset, bytes); error != 0) fail("written:", bytes.size(), error);
}

void ScratchFile::will_read(uint64_t offset, uint64_t bytes) const {
  ::posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(bytes), POSIX_FADV_WILLNEED);
}

void CountedScratch::set(uint64_t bytes) {
  if (bytes > bytes_) take(bytes - bytes_);
  if (bytes < bytes_) taken -= bytes_ - bytes;
  bytes_ = bytes;
}

uint64_t peak_scratch_bytes() { return most_taken; }

uint64_t free_disk_bytes(const std::filesystem::path& folder) {
  struct statvfs info {};
  if (::statvfs(folder.c_str(), &info) != 0)
    user_error("work folder {}: can't be used: {}; choose another --work", folder.string(),
               std::strerror(errno));
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

}  // namespace lathe
