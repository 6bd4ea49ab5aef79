#include "lib/base/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <functional>

#include "lib/base/error.h"
#include "lib/base/partial.h"
#include "lib/base/process_memory.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  FileTest() {
    std::string pattern = (fs::temp_directory_path() / "lathe-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
    folder_ = pattern;
  }
  ~FileTest() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  fs::path put(const std::string& name, const std::string& contents) const {
    std::ofstream(folder_ / name, std::ios::binary) << contents;
    return folder_ / name;
  }
  /// Names in the test's folder, sorted, joined with spaces.
  std::string listing() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    std::string all;
    for (const std::string& name : names) all += (all.empty() ? "" : " ") + name;
    return all;
  }
  fs::path folder_;
};

void expect_user_error(const std::function<void()>& action, const std::string& file,
                       const std::string& wanted) {
  try {
    action();
    ADD_FAILURE() << "no UserError, wanted: " << wanted;
  } catch (const UserError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find(file), message.npos) << message;
    EXPECT_NE(message.find(wanted), message.npos) << message;
    EXPECT_EQ(message.find('\n'), message.npos) << message;
  }
}

// ---- MappedFile and small files

TEST_F(FileTest, MapsTheWholeFile) {
  MappedFile file = MappedFile::open(put("a", "hello"));
  ASSERT_EQ(file.bytes().size(), 5u);
  const std::byte* address = file.bytes().data();
  MappedFile moved = std::move(file);
  EXPECT_EQ(moved.bytes().data(), address);
  EXPECT_TRUE(file.bytes().empty());  // NOLINT(bugprone-use-after-move): a promise of the class
  MappedFile other = MappedFile::open(put("b", "x"));
  other = std::move(moved);
  EXPECT_EQ(static_cast<char>(other.bytes()[4]), 'o');
  EXPECT_TRUE(MappedFile::open(put("empty", "")).bytes().empty());
}

TEST_F(FileTest, ReleasedPagesLeaveMemoryAndCanBeReadAgain) {
  constexpr size_t kBytes = size_t{64} << 20;
  write_file(folder_ / "large", std::string(kBytes, 'x'));
  const MappedFile file = MappedFile::open(folder_ / "large");
  const auto touch = [&] {
    size_t count = 0;
    for (const std::byte b : file.bytes()) count += b == std::byte{'x'};
    return count;
  };
  EXPECT_EQ(touch(), kBytes);
  const uint64_t before = resident_bytes();
  file.release(file.bytes().subspan(5000));
  EXPECT_LT(resident_bytes() + kBytes / 2, before);
  EXPECT_EQ(touch(), kBytes);
  EXPECT_GE(peak_rss_bytes(), resident_bytes());
}

TEST_F(FileTest, ReleaseTakesWhatALookBroughtAlong) {
  constexpr size_t kBytes = size_t{128} << 20;
  write_file(folder_ / "large", std::string(kBytes, 'x'));
  const MappedFile file = MappedFile::open(folder_ / "large");
  release_free_memory();
  const uint64_t before = resident_bytes();
  for (size_t at = 5000; at < kBytes; at += kMappedTogether) {
    const auto byte = file.bytes().subspan(at, 1);
    EXPECT_EQ(static_cast<char>(byte[0]), 'x');
    file.release(byte);
  }
  file.release(file.bytes().last(1));
  EXPECT_LT(resident_bytes(), before + kBytes / 8);
}

TEST_F(FileTest, RefusesWhatIsNoRegularFile) {
  expect_user_error([&] { MappedFile::open(folder_ / "absent"); }, "absent", "No such file or directory");
  expect_user_error([&] { MappedFile::open(folder_); }, folder_.string(), "expected a regular file");
  expect_user_error([&] { MappedFile::open("/dev/zero"); }, "/dev/zero", "expected a regular file");
  expect_user_error([&] { MappedFile::open(put("f", "") / "x"); }, "f/x", "Not a directory");
  const fs::path pipe = folder_ / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  expect_user_error([&] { MappedFile::open(pipe); }, "pipe",
                    "expected a regular file");  // and doesn't wait for a writer
  fs::create_symlink("loop", folder_ / "loop");
  expect_user_error([&] { MappedFile::open(folder_ / "loop"); }, "loop", "symbolic links");
}

TEST_F(FileTest, ReadsTextUpToALimit) {
  const fs::path path = put("t", "12345");
  EXPECT_EQ(read_text_file(path), "12345");
  EXPECT_EQ(read_text_file(path, 5), "12345");
  EXPECT_EQ(read_text_file(put("empty", ""), 0), "");
  expect_user_error([&] { read_text_file(path, 4); }, "/t", "5 bytes, but at most 4");
}

TEST_F(FileTest, WritesAndCopies) {
  const std::string contents("a\0b\n", 4);
  write_file(folder_ / "w", "something longer that must go");
  write_file(folder_ / "w", contents);
  EXPECT_EQ(read_text_file(folder_ / "w"), contents);
  copy_file_durably(folder_ / "w", folder_ / "copy");
  EXPECT_EQ(read_text_file(folder_ / "copy"), contents);
  expect_user_error([&] { copy_file_durably(folder_ / "absent", folder_ / "x"); }, "absent",
                    "can't be opened");
  EXPECT_FALSE(fs::exists(folder_ / "x"));
}

TEST_F(FileTest, WriteErrorsNameTheFile) {
  expect_user_error([&] { write_file(folder_ / "no" / "x", ""); }, "no/x", "can't be created: No such file");
  expect_user_error([&] { write_file(folder_, ""); }, folder_.string(), "can't be created: Is a directory");
  expect_user_error([&] { write_file("/proc/self/x", ""); }, "/proc/self/x", "can't be created");
  expect_user_error([&] { write_file("/dev/full", "x"); }, "/dev/full",
                    "can't be written: No space left on device");
}

TEST_F(FileTest, WriteThatDoesNotFit) {
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{1000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &limit);
  expect_user_error([&] { write_file(folder_ / "big", std::string(5000, 'x')); }, "big",
                    "can't be written: File too large");
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
}

// ---- replace_file

TEST_F(FileTest, ReplacesAFileWholeOrNotAtAll) {
  replace_file(folder_ / "f", "old");
  replace_file(folder_ / "f", "new");
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{1000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &limit);
  for (const char* name : {"f", "g"}) {
    expect_user_error([&] { replace_file(folder_ / name, std::string(5000, 'x')); }, name,
                      "can't be written: File too large");
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(listing(), "f");
  EXPECT_EQ(read_text_file(folder_ / "f"), "new");
}

TEST_F(FileTest, ReplacesWhatALinkNamesAndRefusesAFolder) {
  put("f", "old");
  fs::create_symlink("f", folder_ / "link");
  replace_file(folder_ / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(read_text_file(folder_ / "f"), "new");
  EXPECT_EQ(listing(), "f link");
  expect_user_error([&] { replace_file(folder_, "x"); }, folder_.string(), "Is a directory");
  expect_user_error([&] { replace_file("/dev/full", "x"); }, "/dev/full", "No space left on device");
  EXPECT_TRUE(fs::exists("/dev/full")) << "what is no file is written as it is";
}

TEST_F(FileTest, RemovesPartsThatAKilledWriterLeft) {
  put(".f.partial-999999999", "half");  // above the largest number of a process
  put(".f.partial-1", "another one's");
  replace_file(folder_ / "f", "whole");
  EXPECT_EQ(listing(), ".f.partial-1 f");
}

// ---- OutputFolder

TEST_F(FileTest, OutputAppearsOnlyWhenCommitted) {
  {
    OutputFolder out(folder_ / "out", false);
    EXPECT_EQ(out.target(), folder_ / "out");
    EXPECT_EQ(out.path().parent_path(), folder_) << "on the same file system, or the rename fails";
    EXPECT_TRUE(out.path().filename().string().starts_with("."));
    write_file(out.path() / "a", "1");
    EXPECT_FALSE(fs::exists(folder_ / "out"));
    out.commit();
  }
  EXPECT_EQ(listing(), "out");
  EXPECT_EQ(read_text_file(folder_ / "out" / "a"), "1");
}

TEST_F(FileTest, OutputThatIsAbandonedLeavesNothing) {
  put("bystander", "");
  {
    const OutputFolder out(folder_ / "out", false);
    fs::create_directory(out.path() / "sub");
    write_file(out.path() / "sub" / "a", "1");
  }
  EXPECT_EQ(listing(), "bystander");
}

TEST_F(FileTest, OutputIsFilledByOneAtATime) {
  const OutputFolder first(folder_ / "out", false);
  write_file(first.path() / "a", "1");
  expect_user_error([&] { OutputFolder(folder_ / "out", false); }, "out",
                    fmt::format("process {} is writing it", ::getpid()));
  EXPECT_EQ(read_text_file(first.path() / "a"), "1");
  const OutputFolder other(folder_ / "other", false);
}

TEST_F(FileTest, OutputSaysThatItIsAboutToAppear) {
  OutputFolder out(folder_ / "out", false);
  std::string seen;
  out.before_commit([&] { seen = fs::exists(folder_ / "out") ? "too late" : listing(); });
  out.commit();
  EXPECT_EQ(seen, fmt::format(".out.lock .out.partial-{}", ::getpid()));
}

TEST_F(FileTest, ExistingOutputIsRefused) {
  fs::create_directory(folder_ / "out");
  write_file(folder_ / "out" / "precious", "1");
  expect_user_error([&] { OutputFolder(folder_ / "out", false); }, "out",
                    "already exists; choose another --output or pass --overwrite");
  put("file", "1");
  expect_user_error([&] { OutputFolder(folder_ / "file", false); }, "file", "already exists");
  expect_user_error([&] { OutputFolder(folder_ / "file", true); }, "file", "exists and is not a folder");
  EXPECT_EQ(listing(), "file out");
  EXPECT_EQ(read_text_file(folder_ / "out" / "precious"), "1");
}

TEST_F(FileTest, OverwriteReplacesAtCommitOnly) {
  fs::create_directory(folder_ / "out");
  write_file(folder_ / "out" / "old", "1");
  expect_user_error([&] { const OutputFolder refused(folder_ / "out", true); }, "out",
                    "only what Lathe wrote");
  write_file(folder_ / "out" / "report.json", "{}");
  {
    const OutputFolder abandoned(folder_ / "out", true);
    write_file(abandoned.path() / "new", "2");
  }
  EXPECT_TRUE(fs::exists(folder_ / "out" / "old"));
  {
    OutputFolder out(folder_ / "out", true);
    write_file(out.path() / "new", "2");
    EXPECT_TRUE(fs::exists(folder_ / "out" / "old"));
    out.commit();
  }
  EXPECT_EQ(listing(), "out");
  EXPECT_FALSE(fs::exists(folder_ / "out" / "old")) << "replaced, not merged";
  EXPECT_EQ(read_text_file(folder_ / "out" / "new"), "2");
}

TEST_F(FileTest, OutputThatAppearedMeanwhileIsKept) {
  {
    OutputFolder out(folder_ / "out", false);
    fs::create_directory(folder_ / "out");
    write_file(folder_ / "out" / "theirs", "1");
    expect_user_error([&] { out.commit(); }, "out", "appeared while this run was under way");
  }
  EXPECT_EQ(listing(), "out");
  EXPECT_TRUE(fs::exists(folder_ / "out" / "theirs"));
}

TEST_F(FileTest, RejectedOutputStandsBesideItsPlace) {
  fs::create_directory(folder_ / "out");
  write_file(folder_ / "out" / "report.json", "good");
  for (const char* report : {"first", "second"}) {
    OutputFolder out(folder_ / "out", true);
    write_file(out.path() / "report.json", report);
    EXPECT_EQ(out.reject(), folder_ / "out.rejected");
  }
  EXPECT_EQ(listing(), "out out.rejected");
  EXPECT_EQ(read_text_file(folder_ / "out" / "report.json"), "good");
  EXPECT_EQ(read_text_file(folder_ / "out.rejected" / "report.json"), "second");
}

TEST_F(FileTest, RejectedOutputReplacesNobodyElses) {
  fs::create_directory(folder_ / "out.rejected");
  write_file(folder_ / "out.rejected" / "theirs", "1");
  {
    OutputFolder out(folder_ / "out", false);
    write_file(out.path() / "report.json", "{}");
    EXPECT_EQ(out.reject(), folder_ / "out.rejected-2");
  }
  EXPECT_EQ(listing(), "out.rejected out.rejected-2");
  EXPECT_TRUE(fs::exists(folder_ / "out.rejected" / "theirs"));
}

TEST_F(FileTest, OutputSpellings) {
  {
    OutputFolder out(folder_ / "deep" / "er" / "out", false);  // missing parents are made
    out.commit();
  }
  EXPECT_TRUE(fs::is_directory(folder_ / "deep" / "er" / "out"));
  EXPECT_EQ(OutputFolder((folder_ / "x/").string() + "/", false).target(), folder_ / "x");
  EXPECT_EQ(OutputFolder(folder_ / "y" / ".." / "x" / ".", false).target(), folder_ / "x");
}

TEST_F(FileTest, OutputThatCannotBeMade) {
  put("file", "");
  expect_user_error([&] { OutputFolder(folder_ / "file" / "out", false); }, "file/out", "Not a directory");
  expect_user_error([&] { OutputFolder("/proc/lathe/out", false); }, "/proc/lathe/out", "can't be created");
  expect_user_error([&] { OutputFolder("/proc/lathe", false); }, "/proc/lathe", "can't be written");
  expect_user_error([&] { OutputFolder("", false); }, "output", "name is empty");
}

}  // namespace
}  // namespace lathe
