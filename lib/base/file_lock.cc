#include "lib/base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "lib/base/error.h"

namespace lathe {
namespace {

/// Does the name still stand for the open file? The holder before may have removed it meanwhile.
bool is_at(int fd, const std::filesystem::path& path) {
  struct stat mine {
  }, named{};
  return ::fstat(fd, &mine) == 0 && ::stat(path.c_str(), &named) == 0 && mine.st_dev == named.st_dev &&
         mine.st_ino == named.st_ino;
}

}  // namespace

std::optional<FileLock> FileLock::try_take(const std::filesystem::path& path) {
  while (true) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0) user_error("{}: can't be written: {}", path.string(), std::strerror(errno));
    FileLock lock(path, fd);
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      lock.path_.clear();  // it is the other's
      return std::nullopt;
    }
    if (!is_at(fd, path)) {
      lock.path_.clear();
      continue;
    }
    // For people; a full disk takes nothing from the lock.
    const std::string text = fmt::format("{}\n", ::getpid());
    if (::ftruncate(fd, 0) != 0 || ::write(fd, text.data(), text.size()) < 0) errno = 0;
    return lock;
  }
}

std::string FileLock::holder(const std::filesystem::path& path) {
  std::ifstream file(path);
  long process = 0;
  return file >> process && process > 0 ? fmt::format("process {}", process) : "another process";
}

FileLock::FileLock(FileLock&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {
  other.path_.clear();
}

FileLock::~FileLock() {
  if (fd_ < 0) return;
  if (!path_.empty()) ::unlink(path_.c_str());  // while it is held
  ::close(fd_);
}

}  // namespace lathe
