// LD_PRELOAD: a disk that fails, for a program that doesn't know. Only files below FAIL_UNDER are concerned.
//
//   FAIL_AT=write:17:EIO      the 17th write of the process fails, others don't
//   FAIL_AT=write:17+:ENOSPC  from the 17th on, as a full disk does: half of the 17th's bytes still have room
//   FAIL_AT=rename:1:500ms    is slow
//   FAIL_AT=write:17:flip     writes something else than it was given, one bit of it, and says nothing
//   FAIL_NAME=.safetensors    only files whose names end so are concerned
//   FAIL_COUNT=FILE           how often each call was made is written there at the end, "write 17" a line
//
// write: write, pwrite; sync: fsync, fdatasync; read: pread; room: fallocate, ftruncate; open, rename, mkdir
// as they are.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace {

enum Call { kWrite, kSync, kRead, kRoom, kOpen, kRename, kMkdir, kCalls };
constexpr std::array<std::string_view, kCalls> kNames = {"write", "sync",   "read", "room",
                                                         "open",  "rename", "mkdir"};

struct Fault {
  int call = -1;
  long at = 0;
  bool lasting = false;
  int error = 0;
  useconds_t delay = 0;
  bool flip = false;
};

[[noreturn]] void unusable(const char* text) {
  std::fprintf(stderr, "failing_disk: FAIL_AT can't be understood: %s\n", text);
  _exit(99);
}

Fault parse(const char* text) {
  Fault fault;
  if (text == nullptr) return fault;
  const std::string all = text;
  const size_t first = all.find(':'), second = all.rfind(':');
  if (first == second) unusable(text);
  for (int i = 0; i < kCalls; ++i) {
    if (kNames[static_cast<size_t>(i)] == all.substr(0, first)) fault.call = i;
  }
  fault.at = std::atol(all.c_str() + first + 1);
  fault.lasting = all[second - 1] == '+';
  const std::string what = all.substr(second + 1);
  if (what.ends_with("ms")) {
    fault.delay = static_cast<useconds_t>(std::atol(what.c_str())) * 1000;
  } else if (what == "flip") {
    fault.flip = fault.call == kWrite;
  } else {
    fault.error = what == "EIO" ? EIO : what == "ENOSPC" ? ENOSPC : 0;
  }
  if (fault.call < 0 || fault.at < 1 || (fault.error != 0) + (fault.delay != 0) + fault.flip != 1)
    unusable(text);
  return fault;
}

constexpr int kFlip = -1;

struct Disk {
  Fault fault = parse(std::getenv("FAIL_AT"));
  std::string under = std::getenv("FAIL_UNDER") != nullptr ? std::getenv("FAIL_UNDER") : "";
  std::string name = std::getenv("FAIL_NAME") != nullptr ? std::getenv("FAIL_NAME") : "";
  std::array<std::atomic<long>, kCalls> made{};

  ~Disk() {
    const char* file = std::getenv("FAIL_COUNT");
    std::FILE* out = file == nullptr ? nullptr : std::fopen(file, "w");
    if (out == nullptr) return;
    for (size_t i = 0; i < kCalls; ++i) std::fprintf(out, "%s %ld\n", kNames[i].data(), made[i].load());
    std::fclose(out);
  }

  bool concerns(const char* path) const {
    return !under.empty() && std::string_view(path).starts_with(under) &&
           std::string_view(path).ends_with(name);
  }
  bool concerns(int fd) const {
    char link[64], path[PATH_MAX];
    std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t length = ::readlink(link, path, sizeof path - 1);
    if (length <= 0) return false;
    path[length] = '\0';
    return concerns(path);
  }

  /// 0: the call is to be made; kFlip: with other bytes; else its error.
  template <class File>
  int next(Call call, File file) {
    if (!concerns(file)) return 0;
    const long number = ++made[call];
    if (fault.call != call || number < fault.at || (number > fault.at && !fault.lasting)) return 0;
    if (fault.delay > 0) ::usleep(fault.delay);
    return fault.flip ? kFlip : fault.error;
  }
  bool just_full(Call call) const { return fault.error == ENOSPC && fault.lasting && made[call] == fault.at; }
};

/// Never destroyed before the process's other threads are done with it: made at the first call, counted at
/// exit.
Disk& disk() {
  static Disk made;
  return made;
}

template <class Function>
Function real(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

/// The bytes with the lowest bit of the one in their middle the other way round.
std::vector<char> flipped(const void* data, size_t size) {
  const char* const begin = static_cast<const char*>(data);
  std::vector<char> bytes(begin, begin + size);
  if (size > 0) bytes[size / 2] ^= 1;
  return bytes;
}

int failed(int error) {
  errno = error;
  return -1;
}

}  // namespace

// The C library's own names; those that end in 64 are the same functions on 64-bit machines.
#define WRITE(name, parameters, arguments)                                        \
  extern "C" ssize_t name parameters {                                            \
    static const auto call = real<ssize_t(*) parameters>(#name);                  \
    std::vector<char> changed;                                                    \
    const int error = disk().next(kWrite, fd);                                    \
    if (error == kFlip) {                                                         \
      changed = flipped(data, size);                                              \
      data = changed.data();                                                      \
    } else if (error != 0) {                                                      \
      if (disk().just_full(kWrite) && size > 1) return size /= 2, call arguments; \
      return failed(error);                                                       \
    }                                                                             \
    return call arguments;                                                        \
  }
#define FAILING(result, name, kind, file, parameters, arguments)                     \
  extern "C" result name parameters {                                                \
    static const auto call = real<result(*) parameters>(#name);                      \
    if (const int error = disk().next(kind, file); error != 0) return failed(error); \
    return call arguments;                                                           \
  }

WRITE(write, (int fd, const void* data, size_t size), (fd, data, size))
WRITE(pwrite, (int fd, const void* data, size_t size, off_t at), (fd, data, size, at))
WRITE(pwrite64, (int fd, const void* data, size_t size, off64_t at), (fd, data, size, at))
FAILING(ssize_t, pread, kRead, fd, (int fd, void* data, size_t size, off_t at), (fd, data, size, at))
FAILING(ssize_t, pread64, kRead, fd, (int fd, void* data, size_t size, off64_t at), (fd, data, size, at))
FAILING(int, fsync, kSync, fd, (int fd), (fd))
FAILING(int, fdatasync, kSync, fd, (int fd), (fd))
FAILING(int, ftruncate, kRoom, fd, (int fd, off_t size) noexcept, (fd, size))
FAILING(int, ftruncate64, kRoom, fd, (int fd, off64_t size) noexcept, (fd, size))
FAILING(int, fallocate, kRoom, fd, (int fd, int mode, off_t begin, off_t size), (fd, mode, begin, size))
FAILING(int, fallocate64, kRoom, fd, (int fd, int mode, off64_t begin, off64_t size), (fd, mode, begin, size))
FAILING(int, rename, kRename, from, (const char* from, const char* to) noexcept, (from, to))
FAILING(int, mkdir, kMkdir, path, (const char* path, mode_t mode) noexcept, (path, mode))

namespace {

int open_as(const char* name, const char* path, int flags, mode_t mode) {
  const auto call = real<int (*)(const char*, int, ...)>(name);
  if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT) != 0) {
    if (const int error = disk().next(kOpen, path); error != 0) return failed(error);
  }
  return call(path, flags, mode);
}

mode_t mode_of(int flags, va_list rest) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
}

}  // namespace

#define OPEN(name)                                        \
  extern "C" int name(const char* path, int flags, ...) { \
    va_list rest;                                         \
    va_start(rest, flags);                                \
    const mode_t mode = mode_of(flags, rest);             \
    va_end(rest);                                         \
    return open_as(#name, path, flags, mode);             \
  }

OPEN(open)
OPEN(open64)
