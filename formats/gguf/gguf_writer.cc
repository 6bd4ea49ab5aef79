#include "formats/gguf/gguf_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "lib/base/write_all.h"

namespace lathe {
namespace {

[[noreturn]] void disk_error(const std::filesystem::path& path, const char* action, int error) {
  user_error("{}: can't be {}: {}", path.string(), action, std::strerror(error));
}

void reserve(int fd, uint64_t bytes, const std::filesystem::path& path) {
  if (const int error = reserve_room(fd, bytes); error != 0) {
    user_error("{}: {} can't be reserved on the disk: {}", path.string(), human_bytes(bytes),
               std::strerror(error));
  }
}

void write_at(int fd, uint64_t offset, std::span<const std::byte> bytes, const std::filesystem::path& path) {
  if (const int error = write_all_at(fd, offset, bytes); error != 0) disk_error(path, "written", error);
}

}  // namespace

GgufWriter::GgufWriter(std::filesystem::path path, const GgufMetadata& metadata,
                       const std::vector<GgufPlan>& tensors)
    : path_(std::move(path)) {
  const std::string header = format_gguf_header(metadata, tensors);
  size_ = header.size();
  for (const GgufPlan& tensor : tensors) {
    places_[tensor.name] = {size_, tensor.bytes()};
    size_ = align_up(size_ + tensor.bytes(), kGgufAlignment);
  }
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC | O_CREAT | O_TRUNC, 0644);
  if (fd_ < 0) disk_error(path_, "created", errno);
  try {
    reserve(fd_, size_, path_);
    write_at(fd_, 0, std::as_bytes(std::span(header)), path_);
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

GgufWriter::~GgufWriter() { ::close(fd_); }

void GgufWriter::write(const std::string& name, std::span<const std::byte> bytes, uint64_t begin) {
  const auto found = places_.find(name);
  LATHE_ASSERT(found != places_.end(), "GgufWriter: tensor '{}' was not planned", name);
  Place& place = found->second;
  LATHE_ASSERT(begin <= place.bytes && bytes.size() <= place.bytes - begin,
               "GgufWriter: tensor '{}': bytes {} to {} of {}", name, begin, begin + bytes.size(),
               place.bytes);
  write_at(fd_, place.offset + begin, bytes, path_);
  place.written += bytes.size();
}

void GgufWriter::finish() {
  for (const auto& [name, place] : places_)
    LATHE_ASSERT(place.written == place.bytes, "GgufWriter: tensor '{}': {} of {} bytes written", name,
                 place.written, place.bytes);
  if (::fsync(fd_) != 0) disk_error(path_, "written", errno);
}

}  // namespace lathe
