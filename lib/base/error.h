// Errors, in two families that never mix (the habit is faiss's): what the user can mend, and our own bugs.
//
// A message is one line: which file, key or tensor; what was expected; what was found; what to do.
// The library throws; only apps/ turns an error into text on stderr and an exit code.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace lathe {

/// Exit codes of the command line; stable, documented in README.md.
enum class ExitCode : int { ok = 0, user_input = 2, failed_checks = 3, internal = 70, interrupted = 130 };

/// The input is at fault: a file, a recipe key, a flag, the machine's disk. Exit code 2.
class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The result does not hold what was asked of it. Exit code 3.
class CheckFailed : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A broken promise inside Lathe itself. Exit code 70.
class InternalError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

/// Ctrl-C or SIGTERM, seen at a safe point. Exit code 130.
class Interrupted : public std::runtime_error {
 public:
  Interrupted() : std::runtime_error("interrupted; nothing was written to the output folder") {}
};

template <class... Args>
[[noreturn]] void user_error(fmt::format_string<Args...> text, Args&&... args) {
  throw UserError(fmt::format(text, std::forward<Args>(args)...));
}

template <class... Args>
[[noreturn]] void internal_error(fmt::format_string<Args...> text, Args&&... args) {
  throw InternalError(fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace lathe

/// Checks a promise of our own code (never the user's input).
#define LATHE_ASSERT(condition, ...)                                                                         \
  do {                                                                                                       \
    if (!(condition))                                                                                        \
      ::lathe::internal_error("{}:{}: {} [{}]", __FILE__, __LINE__, ::fmt::format(__VA_ARGS__), #condition); \
  } while (false)
