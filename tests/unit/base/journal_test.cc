// Whatever becomes of a journal's end, the records before it are read, and nothing else.
#include "lib/base/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <future>

#include "lib/base/error.h"
#include "lib/base/hash.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const std::vector<std::string> kPayloads = {"the run", "", std::string(5000, 'x'), "block 1"};

class JournalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = fs::temp_directory_path() / fmt::format("lathe-journal-{}", ::getpid());
    JournalWriter writer = JournalWriter::create(path_);
    for (size_t i = 0; i < kPayloads.size(); ++i) {
      ends_.push_back(writer.size());
      writer.append(static_cast<uint32_t>(10 + i), kPayloads[i]);
    }
    ends_.push_back(writer.size());
    writer.sync();
    whole_ = read_text_file(path_);
    ASSERT_EQ(whole_.size(), ends_.back());
  }
  void TearDown() override { fs::remove(path_); }

  void put(const std::string& bytes) const { std::ofstream(path_, std::ios::binary) << bytes; }
  /// The first `count` records are there, with their types and payloads, and no other.
  void expect_records(size_t count, bool damaged, const std::string& where) const {
    const JournalReader reader(path_);
    ASSERT_EQ(reader.records().size(), count) << where;
    EXPECT_EQ(!reader.damage().empty(), damaged) << where << ": " << reader.damage();
    for (size_t i = 0; i < count; ++i) {
      EXPECT_EQ(reader.records()[i].type, 10 + i) << where;
      const auto bytes = reader.payload(i);
      EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), kPayloads[i])
          << where;
    }
  }
  /// Records that end at or before `bytes`.
  size_t whole_records(size_t bytes) const {
    size_t count = 0;
    while (count + 1 < ends_.size() && ends_[count + 1] <= bytes) ++count;
    return count;
  }

  fs::path path_;
  std::vector<uint64_t> ends_;  // of the header, then of each record
  std::string whole_;
};

TEST_F(JournalTest, RecordsAreReadBack) { expect_records(kPayloads.size(), false, "whole"); }

TEST_F(JournalTest, WhatIsTornAnywhereIsLeftOut) {
  for (size_t bytes = 0; bytes < whole_.size(); ++bytes) {
    put(whole_.substr(0, bytes));
    const bool at_an_end = bytes == 0 || std::ranges::count(ends_, bytes) > 0;
    expect_records(whole_records(bytes), !at_an_end, fmt::format("{} bytes", bytes));
  }
}

TEST_F(JournalTest, AFlippedBitEndsItThere) {
  for (size_t at = ends_[0]; at < whole_.size(); ++at) {
    std::string bytes = whole_;
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << at % 8));
    put(bytes);
    size_t record = 0;
    while (ends_[record + 1] <= at) ++record;
    expect_records(record, true, fmt::format("byte {}", at));
  }
}

TEST_F(JournalTest, ARecordCountsInItsOwnPlaceOnly) {
  // Twice the same, and the last without the one before it: their checksums hold.
  const std::string last = whole_.substr(ends_[3]);
  put(whole_ + last);
  expect_records(4, true, "twice");
  put(whole_.substr(0, ends_[2]) + last);
  expect_records(2, true, "one is missing");
}

TEST_F(JournalTest, GoesOnBehindTheRecordsThatAreKept) {
  put(whole_.substr(0, whole_.size() - 1));
  {
    const JournalReader reader(path_);
    JournalWriter writer = JournalWriter::go_on(path_, reader, 2);
    writer.append(12, kPayloads[2]);
    writer.append(13, kPayloads[3]);
  }
  expect_records(4, false, "gone on");
  EXPECT_EQ(read_text_file(path_), whole_);
}

TEST_F(JournalTest, RefusesWhatIsNoJournal) {
  const auto message = [&] {
    try {
      JournalReader reader(path_);
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  put("{\"a\": 1}, and more than a header");
  EXPECT_THAT(message(), HasSubstr("is no journal"));
  std::string other = whole_;
  other[8] = 99;
  put(other);
  EXPECT_THAT(message(), HasSubstr("expected a journal of version 1, found 99"));
}

TEST_F(JournalTest, AFullDiskLeavesTheRecordsBefore) {
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{whole_.size() + 100000, before.rlim_max};
  std::string message = "no error";
  {
    const JournalReader reader(path_);
    JournalWriter writer = JournalWriter::go_on(path_, reader, 4);
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      writer.append(14, std::string(300000, 'y'));
    } catch (const UserError& error) {
      message = error.what();
    }
    setrlimit(RLIMIT_FSIZE, &before);
  }
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(message, HasSubstr(path_.string() + ": can't be written: File too large"));
  EXPECT_GT(fs::file_size(path_), whole_.size()) << "a part of it was written";
  expect_records(4, true, "full");
}

TEST(ContentHasherTest, PiecesAndTheWholeHaveOneHash) {
  const std::string text(100000, 'a');
  const auto bytes = std::as_bytes(std::span(text));
  ContentHasher hasher;
  for (size_t at = 0; at < text.size(); at += 333)
    hasher.add(bytes.subspan(at, std::min<size_t>(333, text.size() - at)));
  EXPECT_EQ(hasher.text(), content_hash(bytes));
  std::string digits = "xxh3-128:";
  for (const std::byte b : hasher.digest()) digits += fmt::format("{:02x}", static_cast<unsigned>(b));
  EXPECT_EQ(digits, hasher.text());
}

// For `make test-sanitized`, which sees where two threads touch one thing.
TEST_F(JournalTest, GrowsWhileAnotherThreadSyncsIt) {
  JournalWriter writer = JournalWriter::create(path_);
  std::atomic<bool> done = false;
  auto syncing = std::async(std::launch::async, [&] {
    while (!done) writer.sync_appended();
  });
  for (uint32_t i = 0; i < 500; ++i) writer.append(i, std::string(1000, 'x'));
  done = true;
  syncing.get();
  writer.sync();
  const JournalReader reader(path_);
  ASSERT_EQ(reader.records().size(), 500u);
  EXPECT_EQ(reader.damage(), "");
}

}  // namespace
}  // namespace lathe
