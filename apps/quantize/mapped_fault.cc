#include "apps/quantize/mapped_fault.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <string_view>

#include "lib/base/error.h"

namespace lathe {
namespace {

// Only async-signal-safe calls from here on: nothing that allocates.

/// The number at the text's start, in base 16; what follows it is left.
uintptr_t take_hex(std::string_view& text) {
  uintptr_t value = 0;
  while (!text.empty()) {
    const char c = text.front();
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) break;
    value = value * 16 + static_cast<uintptr_t>(digit);
    text.remove_prefix(1);
  }
  return value;
}

/// Of a line of /proc/self/maps, "7f00-7f80 r--p 00000000 08:01 1234   /a/file": the file, where it is mapped
/// at `place`.
std::string_view file_at(std::string_view line, uintptr_t place) {
  const uintptr_t begin = take_hex(line);
  if (line.empty()) return {};
  line.remove_prefix(1);
  if (place < begin || place >= take_hex(line)) return {};
  const size_t path = line.find('/');
  return path == line.npos ? std::string_view() : line.substr(path);
}

/// A long name is one that the handler has no room for.
class Maps {
 public:
  std::string_view find(uintptr_t place) {
    const int fd = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    std::string_view found;
    while (fd >= 0 && found.empty()) {
      const ssize_t n = ::read(fd, buffer_.data() + held_, buffer_.size() - held_);
      if (n <= 0) break;
      held_ += static_cast<size_t>(n);
      found = find_in_lines(place);
    }
    if (fd >= 0) ::close(fd);
    return found;
  }

 private:
  std::string_view find_in_lines(uintptr_t place) {
    const std::string_view held(buffer_.data(), held_);
    size_t begin = 0;
    for (size_t end; (end = held.find('\n', begin)) != held.npos; begin = end + 1) {
      const std::string_view file = file_at(held.substr(begin, end - begin), place);
      if (!file.empty()) return file;
    }
    if (begin == 0) return {};
    held_ -= begin;
    for (size_t i = 0; i < held_; ++i) buffer_[i] = buffer_[begin + i];
    return {};
  }

  std::array<char, 16384> buffer_{};
  size_t held_ = 0;
};

void say(std::string_view text) {
  if (::write(STDERR_FILENO, text.data(), text.size()) < 0) return;  // nobody reads
}

extern "C" void on_bus_error(int signal, siginfo_t* info, void*) {
  constinit static Maps maps;  // not on a stack that may be small
  const std::string_view file = maps.find(reinterpret_cast<uintptr_t>(info->si_addr));
  if (file.empty()) {
    ::signal(signal, SIG_DFL);
    ::raise(signal);
    return;
  }
  say("quantize: error: ");
  say(file);
  say(": can't be read any more: the disk failed, or the file was cut while it was read\n");
  ::_exit(static_cast<int>(ExitCode::user_input));
}

}  // namespace

void install_mapped_fault_handler() {
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_RESETHAND;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace lathe
