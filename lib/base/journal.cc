#include "lib/base/journal.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "lib/base/cancel.h"
#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"

namespace lathe {
namespace {

static_assert(std::endian::native == std::endian::little, "journals are written as they stand in memory");

constexpr std::string_view kMagic = "LATHEJNL";
constexpr size_t kPiece = size_t{4} << 20;

struct FileHeader {
  std::array<char, 8> magic{};
  uint32_t version = kJournalVersion, zero = 0;
};
static_assert(sizeof(FileHeader) == 16);

struct RecordHeader {
  uint64_t bytes = 0;
  uint32_t type = 0, number = 0;
};
static_assert(sizeof(RecordHeader) == 16);

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

/// The record at `at`, or nothing where no whole one stands there.
std::optional<JournalReader::Record> record_at(const MappedFile& file, uint64_t at, uint32_t number) {
  const auto bytes = file.bytes();
  constexpr uint64_t kFrame = sizeof(RecordHeader) + sizeof(ContentHasher::Digest);
  if (bytes.size() - at < kFrame) return std::nullopt;
  RecordHeader header;
  std::memcpy(&header, bytes.data() + at, sizeof header);
  if (header.number != number || header.bytes > bytes.size() - at - kFrame) return std::nullopt;
  const uint64_t begin = at + sizeof header;
  ContentHasher hasher;
  hasher.add(bytes_of(header));
  for (uint64_t done = 0; done < header.bytes; done += kPiece) {
    throw_if_cancelled();
    const auto piece = bytes.subspan(begin + done, std::min<uint64_t>(kPiece, header.bytes - done));
    hasher.add(piece);
    file.release(piece);
  }
  ContentHasher::Digest stored;
  std::memcpy(stored.data(), bytes.data() + begin + header.bytes, stored.size());
  if (stored != hasher.digest()) return std::nullopt;
  return JournalReader::Record{header.type, begin, header.bytes};
}

}  // namespace

JournalReader::JournalReader(const std::filesystem::path& path) : file_(MappedFile::open(path)) {
  const auto bytes = file_.bytes();
  if (bytes.size() < sizeof(FileHeader)) {
    if (!bytes.empty()) damage_ = fmt::format("{} bytes of a header", bytes.size());
    return;
  }
  FileHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::string_view(header.magic.data(), header.magic.size()) != kMagic)
    user_error("{}: is no journal of a run", path.string());
  if (header.version != kJournalVersion || header.zero != 0) {
    user_error("{}: expected a journal of version {}, found {}: another version of Lathe wrote it",
               path.string(), kJournalVersion, header.version);
  }
  uint64_t at = sizeof header;
  while (at < bytes.size()) {
    const auto record = record_at(file_, at, static_cast<uint32_t>(records_.size()));
    if (!record) {
      damage_ = fmt::format("{} bytes from byte {} on are no whole record", bytes.size() - at, at);
      return;
    }
    records_.push_back(*record);
    at = end_of(records_.size());
  }
}

uint64_t JournalReader::end_of(size_t records) const {
  LATHE_ASSERT(records <= records_.size(), "{} records of {}", records, records_.size());
  if (records == 0) return sizeof(FileHeader);
  const Record& last = records_[records - 1];
  return last.begin + last.bytes + sizeof(ContentHasher::Digest);
}

std::span<const std::byte> JournalReader::payload(size_t record) const {
  LATHE_ASSERT(record < records_.size(), "record {} of {}", record, records_.size());
  return file_.bytes().subspan(records_[record].begin, records_[record].bytes);
}

JournalWriter JournalWriter::create(const std::filesystem::path& path) {
  FileHeader header;
  std::copy(kMagic.begin(), kMagic.end(), header.magic.begin());
  AppendFile file = AppendFile::create(path);
  file.append(bytes_of(header));
  return {std::move(file), 0};
}

JournalWriter JournalWriter::go_on(const std::filesystem::path& path, const JournalReader& reader,
                                   size_t records) {
  return {AppendFile::open(path, reader.end_of(records)), static_cast<uint32_t>(records)};
}

void JournalWriter::append(uint32_t type, uint64_t bytes, const std::function<void(const Sink&)>& fill) {
  ContentHasher hasher;
  uint64_t given = 0;
  const auto put = [&](std::span<const std::byte> piece) {
    hasher.add(piece);
    file_.append(piece);
  };
  put(bytes_of(RecordHeader{bytes, type, next_}));
  fill([&](std::span<const std::byte> piece) {
    put(piece);
    given += piece.size();
  });
  LATHE_ASSERT(given == bytes, "a record of {} bytes was given {}", bytes, given);
  file_.append(hasher.digest());
  file_.flush();
  ++next_;
}

void JournalWriter::append(uint32_t type, std::string_view payload) {
  append(type, payload.size(), [&](const Sink& sink) { sink(std::as_bytes(std::span(payload))); });
}

}  // namespace lathe
