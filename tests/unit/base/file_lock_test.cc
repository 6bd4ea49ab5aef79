// One holder at a time, whatever became of the one before.
#include "lib/base/file_lock.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "lib/base/error.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

class FileLockTest : public ::testing::Test {
 protected:
  void TearDown() override { fs::remove(path_); }
  const fs::path path_ = fs::temp_directory_path() / fmt::format("lathe-lock-{}", ::getpid());
};

TEST_F(FileLockTest, SecondHolderIsTurnedAway) {
  {
    const auto first = FileLock::try_take(path_);
    ASSERT_TRUE(first);
    EXPECT_FALSE(FileLock::try_take(path_));
    EXPECT_EQ(FileLock::holder(path_), fmt::format("process {}", ::getpid()));
    EXPECT_TRUE(fs::exists(path_)) << "who was turned away doesn't remove it";
  }
  EXPECT_FALSE(fs::exists(path_));
  EXPECT_TRUE(FileLock::try_take(path_));
}

TEST_F(FileLockTest, AKilledHoldersFileHoldsNobodyUp) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto lock = FileLock::try_take(path_);
    if (write(ready[1], lock ? "1" : "0", 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  char taken = '0';
  ASSERT_EQ(read(ready[0], &taken, 1), 1);
  EXPECT_EQ(taken, '1');
  EXPECT_FALSE(FileLock::try_take(path_));
  EXPECT_EQ(FileLock::holder(path_), fmt::format("process {}", child));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(fs::exists(path_));
  EXPECT_TRUE(FileLock::try_take(path_));
}

TEST_F(FileLockTest, AFileWithoutAnOwnerIsTaken) {
  std::ofstream(path_) << "no number";
  EXPECT_EQ(FileLock::holder(path_), "another process");
  EXPECT_TRUE(FileLock::try_take(path_));
  EXPECT_THROW(FileLock::try_take("/proc/lathe"), UserError);
}

}  // namespace
}  // namespace lathe
