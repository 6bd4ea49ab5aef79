#include "lib/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "lib/base/error.h"
#include "lib/base/existing_output.h"
#include "lib/base/partial.h"
#include "lib/base/write_all.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

/// What marks a folder as one that may be overwritten: a run's, or a kernel layout by itself.
constexpr const char* kOwnFile = "report.json";
constexpr const char* kLayoutFile = "layout.json";
constexpr const char* kManifestFile = "manifest.json";

/// Owns a descriptor for the length of one function.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

int open_for_reading(const fs::path& path) {
  // O_NONBLOCK: a pipe in the place of a file is refused below, not waited for.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) user_error("{}: can't be opened: {}", path.string(), std::strerror(errno));
  return fd;
}

struct stat stat_regular_file(int fd, const fs::path& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) user_error("{}: can't be read: {}", path.string(), std::strerror(errno));
  if (!S_ISREG(info.st_mode)) user_error("{}: expected a regular file", path.string());
  return info;
}

/// Did a run write this folder: an artefact, a kernel layout, or nothing but folders of them (several
/// formats), and what hashes them?
bool is_own(const fs::path& folder) {
  std::error_code ignored;
  if (fs::exists(folder / kOwnFile, ignored) || fs::exists(folder / kLayoutFile, ignored)) return true;
  bool any = false;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.is_regular_file() && entry.path().filename() == kManifestFile) continue;
    if (entry.is_symlink() || !entry.is_directory() || !is_own(entry.path())) return false;
    any = true;
  }
  return any;
}

FileLock lock_output(const fs::path& target) {
  const fs::path file = hidden_sibling(target, "lock");
  try {
    if (auto taken = FileLock::try_take(file)) return std::move(*taken);
  } catch (const UserError& error) {
    user_error("output {}: the folder beside it can't be written: {}", target.string(), error.what());
  }
  user_error("output {}: {} is writing it; wait for that run, or choose another --output", target.string(),
             FileLock::holder(file));
}

}  // namespace

MappedFile MappedFile::open(const fs::path& path) {
  const Descriptor fd(open_for_reading(path));
  const struct stat info = stat_regular_file(fd.get(), path);
  MappedFile file;
  file.size_ = static_cast<size_t>(info.st_size);
  if (file.size_ == 0) return file;
  void* address = ::mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (address == MAP_FAILED) user_error("{}: can't be mapped: {}", path.string(), std::strerror(errno));
  file.data_ = static_cast<const std::byte*>(address);
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(std::span<const std::byte> part) const {
  if (part.empty()) return;
  LATHE_ASSERT(part.data() >= data_ && part.data() + part.size() <= data_ + size_, "not a part of the file");
  // To the ends of the large pages that the part's first and last byte brought in.
  const auto offset = static_cast<size_t>(part.data() - data_);
  const size_t begin = offset / kMappedTogether * kMappedTogether;
  const size_t end =
      std::min(size_, (offset + part.size() + kMappedTogether - 1) / kMappedTogether * kMappedTogether);
  ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

std::string read_text_file(const fs::path& path, uint64_t max_bytes) {
  const MappedFile file = MappedFile::open(path);
  if (file.bytes().size() > max_bytes) {
    user_error("{}: {} bytes, but at most {} are read from such a file", path.string(), file.bytes().size(),
               max_bytes);
  }
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

void write_file(const fs::path& path, std::string_view contents) {
  const Descriptor fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (fd.get() < 0) user_error("{}: can't be created: {}", path.string(), std::strerror(errno));
  if (const int error = write_all(fd.get(), std::as_bytes(std::span(contents))); error != 0)
    user_error("{}: can't be written: {}", path.string(), std::strerror(error));
  if (::fsync(fd.get()) != 0) user_error("{}: can't be written: {}", path.string(), std::strerror(errno));
}

void copy_file_durably(const fs::path& from, const fs::path& to) {
  const MappedFile source = MappedFile::open(from);
  write_file(to, {reinterpret_cast<const char*>(source.bytes().data()), source.bytes().size()});
}

void sync_folder(const fs::path& folder) {
  const Descriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // A folder that may be written, not read, and a file system that syncs none (EINVAL), are as they are.
  if (fd.get() >= 0 && ::fsync(fd.get()) != 0 && errno != EINVAL)
    user_error("{}: what was written there may not be on the disk: {}", folder.string(),
               std::strerror(errno));
}

fs::path output_place(const fs::path& target) {
  if (target.empty()) user_error("output: the folder's name is empty; pass --output");
  std::error_code code;
  fs::path place = fs::absolute(target, code).lexically_normal();
  if (code) user_error("output: the current folder can't be found: {}", code.message());
  // "out/" names the same folder as "out"
  return place.has_filename() ? place : place.parent_path();
}

fs::path hidden_sibling(const fs::path& target, std::string_view suffix) {
  return target.parent_path() / fmt::format(".{}.{}", target.filename().string(), suffix);
}

std::optional<std::string> output_in_the_way(const fs::path& target, bool overwrite) {
  const fs::path place = output_place(target);
  std::error_code code;
  if (!fs::exists(place, code)) return std::nullopt;
  if (!overwrite)
    return fmt::format("output {}: already exists; choose another --output or pass --overwrite",
                       place.string());
  if (!fs::is_directory(place, code))
    return fmt::format("output {}: exists and is not a folder", place.string());
  if (fs::is_empty(place, code) || is_own(place)) return std::nullopt;
  return fmt::format(
      "output {}: --overwrite replaces only what Lathe wrote, and this folder has no {}; remove it yourself",
      place.string(), kOwnFile);
}

OutputFolder::OutputFolder(fs::path target, bool overwrite)
    : target_(output_place(target)), overwrite_(overwrite) {
  if (const auto reason = output_in_the_way(target_, overwrite_)) user_error("{}", *reason);
  std::error_code code;
  fs::create_directories(target_.parent_path(), code);
  if (code) user_error("output {}: its parent folder can't be created: {}", target_.string(), code.message());
  lock_.emplace(lock_output(target_));
  working_ = partial_sibling(target_);
  fs::remove_all(working_, code);
  if (!fs::create_directory(working_, code)) {
    user_error("output {}: the folder beside it can't be written: {}", target_.string(), code.message());
  }
}

OutputFolder::~OutputFolder() {
  if (committed_) return;
  std::error_code ignored;
  fs::remove_all(working_, ignored);
}

fs::path OutputFolder::reject() {
  std::error_code code;
  sync_folder(working_);
  fs::path place = target_.string() + ".rejected";
  for (int number = 2; fs::exists(place, code) && !(fs::is_directory(place, code) && is_own(place)); ++number)
    place = fmt::format("{}.rejected-{}", target_.string(), number);
  fs::remove_all(place, code);
  fs::rename(working_, place, code);
  if (code)
    user_error("output {}: can't be renamed to {}: {}", target_.string(), place.string(), code.message());
  committed_ = true;
  sync_folder(target_.parent_path());
  return place;
}

void OutputFolder::commit() {
  std::error_code code;
  sync_folder(working_);
  if (before_commit_) before_commit_();
  fs::path replaced;
  if (fs::exists(target_, code)) {
    if (!overwrite_) {
      user_error("output {}: appeared while this run was under way; nothing was replaced", target_.string());
    }
    replaced = working_.string() + ".replaced";
    fs::rename(target_, replaced, code);
    if (code) {
      user_error("output {}: the old folder can't be moved aside: {}", target_.string(), code.message());
    }
  }
  fs::rename(working_, target_, code);
  if (code) {
    std::error_code ignored;
    if (!replaced.empty()) fs::rename(replaced, target_, ignored);
    user_error("output {}: can't be renamed into place: {}", target_.string(), code.message());
  }
  committed_ = true;
  if (!replaced.empty()) fs::remove_all(replaced, code);
  sync_folder(target_.parent_path());
}

}  // namespace lathe
