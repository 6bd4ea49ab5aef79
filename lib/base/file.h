// Files: read-only mappings, whole small files, durable writes, and output folders that appear complete or
// not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lib/base/file_lock.h"

namespace lathe {

/// The most bytes of a file that a look at one of them brings into this process's memory.
inline constexpr size_t kMappedTogether = size_t{2} << 20;

/// A read-only memory mapping of a whole file. Move-only. Throws UserError naming the file.
class MappedFile {
 public:
  static MappedFile open(const std::filesystem::path& path);
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  /// Lets the pages of a part of bytes() go: they count as this process's memory from their first use on. The
  /// bytes stay valid, and are read from the file (or the system's cache of it) again when they are used.
  /// Linux holds files in pages of up to kMappedTogether, and a look at one byte maps its page as a whole
  /// (MADV_RANDOM and MADV_NOHUGEPAGE change nothing in that, seen on 6.18): whoever reads here and there
  /// releases in between, and what lies in the same page goes, too.
  void release(std::span<const std::byte> part) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// The whole file as text. UserError when it is missing, unreadable or longer than `max_bytes`.
std::string read_text_file(const std::filesystem::path& path, uint64_t max_bytes = uint64_t{1} << 30);

/// Writes the whole file and syncs it. UserError naming the file and the system's reason (full disk,
/// read-only, ...).
void write_file(const std::filesystem::path& path, std::string_view contents);

/// Copies one file's bytes and syncs the copy.
void copy_file_durably(const std::filesystem::path& from, const std::filesystem::path& to);

/// What was created, renamed or removed in the folder is on the disk, or UserError naming it.
void sync_folder(const std::filesystem::path& folder);

/// The folder that an output's name stands for: absolute, in its normal form. UserError where it is empty.
std::filesystem::path output_place(const std::filesystem::path& target);
/// ".out.suffix" beside "out"; of an output_place().
std::filesystem::path hidden_sibling(const std::filesystem::path& target, std::string_view suffix);

/// A folder that is filled beside its final place and renamed at the end, so that what stands at the final
/// place is always complete. The destructor removes what was not committed. While it lives nobody else fills
/// the same folder.
class OutputFolder {
 public:
  /// Refuses an existing `target` unless `overwrite`; the old one is replaced only by commit(), and only
  /// where it is empty or holds a report.json, as every folder that Lathe writes does. UserError where the
  /// parent can't be created or written to, or another run is writing the same output.
  OutputFolder(std::filesystem::path target, bool overwrite);
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;
  ~OutputFolder();

  /// Where to write: a hidden sibling of the target.
  const std::filesystem::path& path() const { return working_; }
  const std::filesystem::path& target() const { return target_; }
  void commit();
  /// Called by commit() when everything is written, before the folder gets its name.
  void before_commit(std::function<void()> action) { before_commit_ = std::move(action); }
  /// Keeps what was written beside its place, for a person to look at: as "<target>.rejected", in place of an
  /// older one that Lathe left there; under another number ("<target>.rejected-2") where somebody else's
  /// stands there. Returns the path. Nothing else of the target is touched.
  std::filesystem::path reject();

 private:
  std::filesystem::path target_;
  std::filesystem::path working_;
  std::optional<FileLock> lock_;
  std::function<void()> before_commit_;
  bool committed_ = false;
  bool overwrite_ = false;
};

}  // namespace lathe
