#include "lib/base/cancel.h"

#include <atomic>

#include "lib/base/error.h"

namespace lathe {
namespace {
std::atomic<bool> g_cancel{false};
static_assert(std::atomic<bool>::is_always_lock_free);
}  // namespace

void request_cancel() noexcept { g_cancel.store(true, std::memory_order_relaxed); }
bool cancel_requested() noexcept { return g_cancel.load(std::memory_order_relaxed); }
void throw_if_cancelled() {
  if (cancel_requested()) throw Interrupted();
}

}  // namespace lathe
