// All of a piece, or the system's reason; bytes of a file that was cut end as a read of them does.
#include "lib/base/write_all.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>

#include "lib/base/file.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

class WriteAllTest : public testing::Test {
 protected:
  WriteAllTest() : folder_(fs::temp_directory_path() / ("lathe-write-all-" + std::to_string(::getpid()))) {
    fs::create_directory(folder_);
    fd_ = ::open((folder_ / "written").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  }
  ~WriteAllTest() override {
    ::close(fd_);
    fs::remove_all(folder_);
  }

  fs::path folder_;
  int fd_ = -1;
};

TEST_F(WriteAllTest, GoesOnAtItsPlaceAndFillsAnOffset) {
  EXPECT_EQ(write_all(fd_, bytes_of("abc")), 0);
  EXPECT_EQ(write_all_at(fd_, 6, bytes_of("gh")), 0);
  EXPECT_EQ(write_all(fd_, bytes_of("def")), 0);
  EXPECT_EQ(write_all(fd_, {}), 0);
  EXPECT_EQ(read_text_file(folder_ / "written"), "abcdefgh");
}

TEST_F(WriteAllTest, TheSystemsReasonIsReturned) {
  EXPECT_EQ(write_all(-1, bytes_of("abc")), EBADF);
  EXPECT_EQ(write_all_at(-1, 0, bytes_of("abc")), EBADF);
  EXPECT_EQ(reserve_room(-1, 1), EBADF);
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  EXPECT_EQ(write_all(full, bytes_of("abc")), ENOSPC);
  ::close(full);
}

TEST_F(WriteAllTest, RoomIsTakenBeforeItIsWritten) {
  ASSERT_EQ(reserve_room(fd_, 12345), 0);
  EXPECT_EQ(fs::file_size(folder_ / "written"), 12345u);
  EXPECT_EQ(reserve_room(fd_, 0), 0);
}

TEST_F(WriteAllTest, BytesOfAFileThatWasCutEndAsAReadOfThem) {
  const fs::path source = folder_ / "source";
  std::ofstream(source) << std::string(64 << 10, 'x');
  const MappedFile mapped = MappedFile::open(source);
  ASSERT_EQ(::truncate(source.c_str(), 4096), 0);
  EXPECT_EQ(write_all(fd_, mapped.bytes().first(4096)), 0);
  EXPECT_DEATH(write_all(fd_, mapped.bytes()), "");
  EXPECT_DEATH(write_all_at(fd_, 0, mapped.bytes()), "");
}

}  // namespace
}  // namespace lathe
