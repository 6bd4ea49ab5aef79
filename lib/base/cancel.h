// Cancellation: a signal handler sets one flag, long loops look at it at points where stopping is safe.
#pragma once

namespace lathe {

/// Async-signal-safe.
void request_cancel() noexcept;
bool cancel_requested() noexcept;
/// Throws Interrupted when cancellation was requested.
void throw_if_cancelled();

}  // namespace lathe
