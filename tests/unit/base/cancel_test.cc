#include "lib/base/cancel.h"

#include <gtest/gtest.h>

#include <csignal>

#include "lib/base/error.h"

namespace lathe {
namespace {

// The request can't be taken back, so it is made in a child process.
[[noreturn]] void cancel_by_signal() {
  std::signal(SIGINT, [](int) { request_cancel(); });
  if (cancel_requested()) std::_Exit(1);
  throw_if_cancelled();
  std::raise(SIGINT);
  if (!cancel_requested()) std::_Exit(2);
  try {
    throw_if_cancelled();
  } catch (const Interrupted&) {
    std::_Exit(static_cast<int>(ExitCode::interrupted));
  }
  std::_Exit(3);
}

TEST(CancelDeathTest, SignalEndsTheNextSafePoint) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(cancel_by_signal(), testing::ExitedWithCode(130), "");
}

TEST(Cancel, NothingHappensUnasked) {
  EXPECT_FALSE(cancel_requested());
  EXPECT_NO_THROW(throw_if_cancelled());
}

}  // namespace
}  // namespace lathe
