#include "apps/quantize/failure.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <filesystem>
#include <new>
#include <system_error>

#include "lib/base/terminal.h"

namespace lathe {
namespace {

constexpr const char* kMemory =
    "not enough memory (fewer calibration.samples or a shorter calibration.seq_len need less)";

Failure user_failure(const std::string& text) { return {ExitCode::user_input, "quantize: error: " + text}; }

Failure bug(const std::string& text) {
  return {ExitCode::internal, fmt::format("quantize: error: this is a bug in Lathe: {}", text)};
}

/// c10 puts a backtrace below the message.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

Failure describe_torch(const c10::Error& error) {
  const std::string text = first_line(error.what_without_backtrace());
  // The CPU allocator has no exception of its own.
  const bool memory = dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
                      text.find("can't allocate memory") != std::string::npos;
  return memory ? user_failure(fmt::format("{}: {}", kMemory, text)) : bug(text);
}

Failure classify(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const UserError& e) {
    return user_failure(e.what());
  } catch (const CheckFailed& e) {
    return {ExitCode::failed_checks, fmt::format("quantize: error: {}", e.what())};
  } catch (const Interrupted& e) {
    return {ExitCode::interrupted, fmt::format("quantize: {}", e.what())};
  } catch (const c10::Error& e) {
    return describe_torch(e);
  } catch (const std::bad_alloc&) {
    return user_failure(kMemory);
  } catch (const std::filesystem::filesystem_error& e) {
    return user_failure(e.what());
  } catch (const std::system_error& e) {  // a thread that can't be started, most of all
    const bool short_of =
        e.code() == std::errc::resource_unavailable_try_again || e.code() == std::errc::not_enough_memory;
    return short_of
               ? user_failure(fmt::format("the system has no room for more memory or threads: {}", e.what()))
               : bug(e.what());
  } catch (const std::exception& e) {
    return bug(e.what());
  } catch (...) {
    return bug("an exception of unknown type");
  }
}

}  // namespace

Failure describe_failure(const std::exception_ptr& error) {
  Failure failure = classify(error);
  failure.line = one_line(failure.line);
  return failure;
}

}  // namespace lathe
