#include "lib/text/jinja/confined.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <fstream>
#include <mutex>
#include <new>
#include <stdexcept>

#include "lib/base/cancel.h"
#include "lib/base/error.h"

namespace lathe::text {
namespace {

using nlohmann::ordered_json;

constexpr int kPollMilliseconds = 100;
constexpr uint64_t kLongestText = uint64_t{1} << 30;

/// The first byte of an answer; text follows.
enum class Answer : char { text = 'T', refused = 'R', no_memory = 'M', no_engine = 'E' };

/// False where the other side is gone.
bool send_all(int fd, const void* data, size_t size) {
  const char* from = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = ::send(fd, from, size, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    from += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

bool receive_all(int fd, void* data, size_t size) {
  char* to = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t n = ::recv(fd, to, size, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    to += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

bool send_message(int fd, const std::string& text) {
  const uint64_t size = text.size();
  return send_all(fd, &size, sizeof size) && send_all(fd, text.data(), text.size());
}

bool receive_message(int fd, std::string& text) {
  uint64_t size = 0;
  if (!receive_all(fd, &size, sizeof size) || size > kLongestText) return false;
  text.resize(size);
  return receive_all(fd, text.data(), size);
}

// The other process. It is a copy of this one with one thread, and ends by _exit() alone.

uint64_t mapped_bytes() {
  uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

void set_limit(int resource, rlim_t limit) {
  const rlimit both{limit, limit};
  ::setrlimit(static_cast<__rlimit_resource_t>(resource), &both);
}

void confine(int socket, const TemplateLimits& limits) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::signal(signal, SIG_IGN);  // it ends with its socket
  for (const int signal : {SIGSEGV, SIGBUS, SIGABRT}) ::signal(signal, SIG_DFL);
  set_limit(RLIMIT_AS, mapped_bytes() + limits.bytes);
  set_limit(RLIMIT_CORE, 0);
  set_limit(RLIMIT_FSIZE, 0);
  ::dup2(socket, STDIN_FILENO);  // locks and mapped models are not for it
  ::close_range(STDIN_FILENO + 1, ~0U, 0);
  set_limit(RLIMIT_NOFILE, 1);
}

/// SIGPROF ends the process where it is not called again in time.
void allow_time(int seconds) {
  const itimerval timer{.it_interval = {}, .it_value = {.tv_sec = seconds, .tv_usec = 0}};
  ::setitimer(ITIMER_PROF, &timer, nullptr);
}

template <class Work>
std::string answer(const TemplateLimits& limits, Work&& work) {
  const auto with = [](Answer kind, const std::string& text) { return static_cast<char>(kind) + text; };
  try {
    allow_time(limits.seconds);
    std::string text = with(Answer::text, work());
    allow_time(0);
    return text;
  } catch (const std::bad_alloc&) {
    return with(Answer::no_memory, "");
  } catch (const UserError& error) {
    return with(Answer::no_engine, error.what());
  } catch (const std::exception& error) {
    const std::string text = error.what();  // the engine puts its own words around what it catches
    return text.ends_with("std::bad_alloc") ? with(Answer::no_memory, "") : with(Answer::refused, text);
  }
}

[[noreturn]] void serve(int socket, const std::string& source, const TemplateLimits& limits) {
  confine(socket, limits);
  std::unique_ptr<JinjaProgram> program;
  const auto parse = [&] { return program = parse_jinja(source), std::string(); };
  bool connected = send_message(STDIN_FILENO, answer(limits, parse));
  for (std::string request; connected && program != nullptr && receive_message(STDIN_FILENO, request);)
    connected = send_message(STDIN_FILENO,
                             answer(limits, [&] { return program->run(ordered_json::parse(request)); }));
  ::_exit(0);
}

// This process.

/// How the other one ended, for people.
std::string reason_of(int status, const TemplateLimits& limits) {
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF)
    return fmt::format("it takes more than {} seconds", limits.seconds);
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) return "it is nested or calls itself too deeply";
  return "it takes too much memory, or breaks the engine that runs it";
}

class ConfinedProgram : public JinjaProgram {
 public:
  ConfinedProgram(const std::string& source, TemplateLimits limits) : source_(source), limits_(limits) {
    start();
  }
  ConfinedProgram(const ConfinedProgram&) = delete;
  ConfinedProgram& operator=(const ConfinedProgram&) = delete;
  ~ConfinedProgram() override { end(); }

  std::string run(const ordered_json& variables) const override {
    const std::scoped_lock one_at_a_time(mutex_);
    if (process_ < 0) start();
    if (!send_message(socket_, variables.dump())) fail();
    return receive();
  }

 private:
  void start() const {
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) throw std::bad_alloc();
    process_ = ::fork();
    if (process_ == 0) serve(pair[1], source_, limits_);
    ::close(pair[1]);
    socket_ = pair[0];
    if (process_ < 0) {
      end();
      throw std::bad_alloc();
    }
    try {
      receive();
    } catch (...) {  // no destructor follows in the constructor
      end();
      throw;
    }
  }

  /// The other process's status; 0 where there is none.
  int end() const {
    int status = 0;
    if (socket_ >= 0) ::close(socket_);
    if (process_ >= 0) {
      while (::waitpid(process_, &status, 0) < 0 && errno == EINTR) {
      }
    }
    socket_ = process_ = -1;
    return status;
  }

  [[noreturn]] void fail() const { throw std::runtime_error(reason_of(end(), limits_)); }

  /// A long rendering doesn't hold Ctrl-C up.
  void wait() const {
    pollfd ready{.fd = socket_, .events = POLLIN, .revents = 0};
    while (::poll(&ready, 1, kPollMilliseconds) <= 0) {
      if (!cancel_requested()) continue;
      ::kill(process_, SIGKILL);
      end();
      throw_if_cancelled();
    }
  }

  std::string receive() const {
    wait();
    std::string text;
    if (!receive_message(socket_, text) || text.empty()) fail();
    const auto kind = static_cast<Answer>(text.front());
    text.erase(0, 1);
    switch (kind) {
      case Answer::text:
        return text;
      case Answer::no_memory:
        throw std::runtime_error(fmt::format("it takes more than {} MiB of memory", limits_.bytes >> 20));
      case Answer::no_engine:
        throw UserError(text);
      case Answer::refused:
        break;
    }
    throw std::runtime_error(text);
  }

  std::string source_;
  TemplateLimits limits_;
  mutable std::mutex mutex_;
  mutable pid_t process_ = -1;
  mutable int socket_ = -1;
};

}  // namespace

std::unique_ptr<JinjaProgram> parse_confined(const std::string& source, TemplateLimits limits) {
  return std::make_unique<ConfinedProgram>(source, limits);
}

}  // namespace lathe::text
