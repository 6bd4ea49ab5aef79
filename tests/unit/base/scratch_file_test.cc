// Whole ranges or an error that names the folder and the bytes; nothing left behind.
#include "lib/base/scratch_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <vector>

#include "lib/base/error.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class ScratchFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / fmt::format("lathe-scratch-{}", ::getpid());
    fs::create_directory(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string message_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  }

  fs::path folder_;
};

TEST_F(ScratchFileTest, FilesWithNamesAreCountedToo) {
  const uint64_t large = peak_scratch_bytes() + (1 << 20);
  {
    CountedScratch named;
    named.set(large);
    named.set(1000);
    const ScratchFile file(folder_, large);
    EXPECT_EQ(peak_scratch_bytes(), large + 1000);
  }
  const ScratchFile file(folder_, large + 1000);
  EXPECT_EQ(peak_scratch_bytes(), large + 1000) << "what is gone counts no more";
}

TEST_F(ScratchFileTest, TheMostThatFilesTakeTogetherIsCounted) {
  const uint64_t before = peak_scratch_bytes();
  const uint64_t large = before + (2 << 20);
  {
    ScratchFile first(folder_, large);
    EXPECT_EQ(peak_scratch_bytes(), large);
    ScratchFile moved(std::move(first)), second(folder_, 1 << 20);
    EXPECT_EQ(peak_scratch_bytes(), large + (1 << 20));
  }
  ScratchFile third(folder_, large);
  EXPECT_EQ(peak_scratch_bytes(), large + (1 << 20)) << "what is gone counts no more";
}

TEST_F(ScratchFileTest, RangesComeBackAndNoNameIsLeft) {
  ScratchFile file(folder_, 1 << 20);
  EXPECT_TRUE(fs::is_empty(folder_));
  std::vector<std::byte> written(5000), found(5000);
  for (size_t i = 0; i < written.size(); ++i) written[i] = static_cast<std::byte>(i * 7);
  file.write(100'000, written);
  ScratchFile moved = std::move(file);
  moved.will_read(100'000, 5000);
  moved.read(100'000, found);
  EXPECT_EQ(found, written);
  EXPECT_EQ(moved.size(), 1u << 20);
}

TEST_F(ScratchFileTest, BeyondItsSizeIsOurBug) {
  const ScratchFile file(folder_, 100);
  std::vector<std::byte> bytes(60);
  EXPECT_THROW(file.write(50, bytes), InternalError);
  EXPECT_THROW(file.read(UINT64_MAX, bytes), InternalError);
}

TEST_F(ScratchFileTest, AMissingFolderIsNamed) {
  const std::string message = message_of([&] { ScratchFile(folder_ / "none", 100); });
  EXPECT_THAT(message, HasSubstr((folder_ / "none").string()));
  EXPECT_THAT(message, HasSubstr("No such file"));
}

TEST_F(ScratchFileTest, SpaceThatIsNotThereIsRefusedAtOnce) {
  const uint64_t much = uint64_t{1} << 50;
  const std::string message = message_of([&] { ScratchFile(folder_, much); });
  EXPECT_THAT(message, HasSubstr(folder_.string()));
  EXPECT_THAT(message, HasSubstr(std::to_string(much)));
}

/// A disk that fills up while the run goes on, as the system's limit on file sizes shows it: a short write,
/// then an error.
TEST_F(ScratchFileTest, ShortWritesAreErrors) {
  const ScratchFile file(folder_, 1 << 20);
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 6000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = message_of([&] { file.write(4000, std::vector<std::byte>(4000)); });
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_THAT(message, HasSubstr(folder_.string()));
  EXPECT_THAT(message, HasSubstr("4000 bytes of 1048576"));
}

TEST_F(ScratchFileTest, FreeSpaceOfAFolder) {
  EXPECT_GT(free_disk_bytes(folder_), 0u);
  EXPECT_THROW(free_disk_bytes(folder_ / "none"), UserError);
}

}  // namespace
}  // namespace lathe
