// A journal: records that are appended to a file, each with a checksum, so that whatever stopped the writer
// (kill -9, a full disk, a power failure), the records before are whole and what is torn is known for it.
//
// The file, little-endian:
//   "LATHEJNL", version (u32), 0 (u32)
//   records: payload bytes (u64), type (u32), number (u32, from 0), payload, XXH3-128 of all that
//
// A record counts where its checksum holds, it lies within the file, and all records before it count. The
// number keeps a record from counting in another one's place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "lib/base/append_file.h"
#include "lib/base/file.h"

namespace lathe {

/// Raised whenever the meaning of a journal's bytes changes.
inline constexpr uint32_t kJournalVersion = 1;

class JournalReader {
 public:
  struct Record {
    uint32_t type = 0;
    uint64_t begin = 0, bytes = 0;  // of its payload, in the file
  };

  /// Reads all of the file, piece by piece: memory doesn't grow with it. UserError where it is no journal, or
  /// one of another version. A file that ends before its records begin has none.
  explicit JournalReader(const std::filesystem::path& path);

  const std::vector<Record>& records() const { return records_; }
  /// What follows the last record that counts, in words: "18 bytes that are no whole record"; empty: nothing.
  const std::string& damage() const { return damage_; }
  /// Bytes of the file up to the end of the first `records`.
  uint64_t end_of(size_t records) const;
  /// Valid while the reader lives and the file is not cut below it.
  std::span<const std::byte> payload(size_t record) const;
  /// Lets the memory of a payload that was read go.
  void release(size_t record) const { file_.release(payload(record)); }

 private:
  MappedFile file_;
  std::vector<Record> records_;
  std::string damage_;
};

class JournalWriter {
 public:
  using Sink = std::function<void(std::span<const std::byte>)>;

  /// A new journal without records, in place of one that is there.
  static JournalWriter create(const std::filesystem::path& path);
  /// Goes on after the first `records` of a journal; those that follow are cut off.
  static JournalWriter go_on(const std::filesystem::path& path, const JournalReader& reader, size_t records);

  /// Appends a record of `bytes` bytes, which `fill` hands to the sink in pieces. The record counts once all
  /// of it stands in the file: not before. UserError as AppendFile; InternalError for another number of
  /// bytes.
  void append(uint32_t type, uint64_t bytes, const std::function<void(const Sink&)>& fill);
  void append(uint32_t type, std::string_view payload);
  /// All records are on the disk.
  void sync() { file_.sync(); }
  /// Those that were appended so far; another thread may append meanwhile.
  void sync_appended() const { file_.sync_flushed(); }
  uint64_t size() const { return file_.size(); }

 private:
  JournalWriter(AppendFile file, uint32_t next) : file_(std::move(file)), next_(next) {}

  AppendFile file_;
  uint32_t next_ = 0;  // record's number
};

}  // namespace lathe
