// Exceptions as one line and an exit code.
#include "apps/quantize/failure.h"

#include <c10/util/Exception.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <system_error>

namespace lathe {
namespace {

using testing::HasSubstr;

template <class Error>
Failure failure_of(Error error) {
  return describe_failure(std::make_exception_ptr(std::move(error)));
}

TEST(Failure, EachFamilyHasItsCode) {
  EXPECT_EQ(failure_of(UserError("x: no such file")).line, "quantize: error: x: no such file");
  EXPECT_EQ(failure_of(UserError("x")).code, ExitCode::user_input);
  EXPECT_EQ(failure_of(CheckFailed("x")).code, ExitCode::failed_checks);
  EXPECT_EQ(failure_of(Interrupted()).code, ExitCode::interrupted);
  EXPECT_THAT(failure_of(Interrupted()).line, HasSubstr("interrupted"));
  EXPECT_EQ(failure_of(InternalError("x")).code, ExitCode::internal);
  EXPECT_THAT(failure_of(InternalError("x")).line, HasSubstr("this is a bug in Lathe: x"));
  EXPECT_EQ(failure_of(std::out_of_range("x")).code, ExitCode::internal);
  EXPECT_EQ(failure_of(5).code, ExitCode::internal);
}

TEST(Failure, MemoryIsTheMachinesMatter) {
  EXPECT_EQ(failure_of(std::bad_alloc()).code, ExitCode::user_input);
  EXPECT_THAT(failure_of(std::bad_alloc()).line, HasSubstr("not enough memory"));
  const auto of_system = [](std::errc code) {
    return failure_of(std::system_error(std::make_error_code(code)));
  };
  EXPECT_EQ(of_system(std::errc::resource_unavailable_try_again).code, ExitCode::user_input)
      << "too many threads";
  EXPECT_EQ(of_system(std::errc::invalid_argument).code, ExitCode::internal);
  const Failure allocator =
      failure_of(c10::Error({__func__, __FILE__, __LINE__}, "DefaultCPUAllocator: can't allocate memory: 5"));
  EXPECT_EQ(allocator.code, ExitCode::user_input);
  EXPECT_THAT(allocator.line, HasSubstr("not enough memory"));
}

TEST(Failure, TorchErrorsShrinkToTheirFirstLine) {
  const Failure failure =
      failure_of(c10::Error({__func__, __FILE__, __LINE__}, "shapes differ\nframe 1\nframe 2"));
  EXPECT_EQ(failure.code, ExitCode::internal);
  EXPECT_THAT(failure.line, testing::EndsWith("shapes differ"));
}

TEST(Failure, IsAlwaysOneLineThatCommandsNoTerminal) {
  EXPECT_EQ(failure_of(UserError("a\nb")).line, "quantize: error: a b");
  EXPECT_EQ(failure_of(UserError("a\x1b[2J\x7F")).line, "quantize: error: a\\x1b[2J\\x7f");
  EXPECT_LT(failure_of(UserError(std::string(1 << 20, 'x'))).line.size(), 5000u);
}

}  // namespace
}  // namespace lathe
