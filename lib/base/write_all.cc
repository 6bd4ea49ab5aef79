#include "lib/base/write_all.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace lathe {
namespace {

constexpr size_t kMaxTransfer = size_t{1} << 30;  // Linux moves at most 2 GiB - 4 KiB a call
constexpr size_t kSmallestPage = 4096;

void read_each_page(std::span<const std::byte> bytes) {
  const volatile std::byte* place = bytes.data();
  for (size_t i = 0; i < bytes.size(); i += kSmallestPage) static_cast<void>(place[i]);
  static_cast<void>(place[bytes.size() - 1]);
}

/// `write_some` writes from the span's start and returns what write(2) does.
template <class Write>
int write_each(std::span<const std::byte> bytes, Write write_some) {
  while (!bytes.empty()) {
    const ssize_t n = write_some(bytes.first(std::min(bytes.size(), kMaxTransfer)));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int error = n < 0 ? errno : ENOSPC;
      if (error == EFAULT) read_each_page(bytes);
      return error;
    }
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return 0;
}

}  // namespace

int write_all(int fd, std::span<const std::byte> bytes) {
  return write_each(
      bytes, [&](std::span<const std::byte> piece) { return ::write(fd, piece.data(), piece.size()); });
}

int write_all_at(int fd, uint64_t offset, std::span<const std::byte> bytes) {
  const std::byte* begin = bytes.data();
  return write_each(bytes, [&](std::span<const std::byte> piece) {
    const auto place = static_cast<off_t>(offset + static_cast<uint64_t>(piece.data() - begin));
    return ::pwrite(fd, piece.data(), piece.size(), place);
  });
}

int reserve_room(int fd, uint64_t bytes) {
  if (bytes == 0) return 0;
  int result = 0;
  do {
    // Not posix_fallocate: where the file system can't reserve, glibc writes a byte to every block instead.
    result = ::fallocate(fd, 0, 0, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  if (result != 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
    result = ::ftruncate(fd, static_cast<off_t>(bytes));
  return result == 0 ? 0 : errno;
}

}  // namespace lathe
