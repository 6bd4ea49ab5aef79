#include "formats/safetensors/shard_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/strings.h"
#include "lib/base/write_all.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxShards = 99'999;  // five digits in the file names
constexpr size_t kPiece = size_t{8} << 20;

[[noreturn]] void disk_error(const fs::path& path, const char* action, int error) {
  user_error("{}: can't be {}: {}", path.string(), action, std::strerror(error));
}

/// A shard opened for the length of one call: a plan may hold more shards than a process may hold
/// descriptors.
class ShardFile {
 public:
  ShardFile(fs::path path, int flags) : path_(std::move(path)) {
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC | flags, 0644);
    if (fd_ < 0) disk_error(path_, "created", errno);
  }
  ShardFile(const ShardFile&) = delete;
  ShardFile& operator=(const ShardFile&) = delete;
  ~ShardFile() { ::close(fd_); }

  void reserve(uint64_t bytes) const {
    if (const int error = reserve_room(fd_, bytes); error != 0) {
      user_error("{}: {} can't be reserved on the disk: {}", path_.string(), human_bytes(bytes),
                 std::strerror(error));
    }
  }

  void write_at(uint64_t offset, std::span<const std::byte> bytes) const {
    if (const int error = write_all_at(fd_, offset, bytes); error != 0) disk_error(path_, "written", error);
  }

  void sync() const {
    if (::fsync(fd_) != 0) disk_error(path_, "written", errno);
  }

 private:
  fs::path path_;
  int fd_ = -1;
};

void name_shards(ShardPlan& plan) {
  const size_t count = plan.shards.size();
  for (size_t i = 0; i < count; ++i) {
    plan.shards[i].file =
        count == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, count);
  }
}

struct Place {
  size_t shard = 0;
  uint64_t offset = 0, bytes = 0;  // planned; of an open tensor the most it may have, and no offset
  bool written = false;
  const PlannedTensor* open = nullptr;
};

/// The shard that grows as open tensors come.
struct OpenShard {
  ShardPlan::Shard plan;
  std::vector<PlannedTensor> written;  // as they are
  uint64_t header_bytes = 0, end = 0;

  /// Room for the longest header: no number in it has more digits than at the largest size.
  explicit OpenShard(ShardPlan::Shard shard)
      : plan(std::move(shard)),
        header_bytes(format_safetensors_header(plan.tensors).size()),
        end(header_bytes) {}

  /// Takes a tensor of `bytes` bytes; its place in the file.
  uint64_t append(const PlannedTensor& planned, uint64_t bytes) {
    PlannedTensor tensor = planned;
    tensor.info.shape[0] = 1;
    const uint64_t entry = tensor.info.nbytes();
    LATHE_ASSERT(bytes % entry == 0, "ShardWriter: tensor '{}': {} bytes, not a multiple of {}", planned.name,
                 bytes, entry);
    tensor.info.shape[0] = static_cast<int64_t>(bytes / entry);
    written.push_back(std::move(tensor));
    return std::exchange(end, end + bytes);
  }
};

}  // namespace

ShardPlan plan_shards(const std::vector<PlannedTensor>& tensors, uint64_t shard_size) {
  LATHE_ASSERT(shard_size > 0, "plan_shards: shard_size is 0");
  ShardPlan plan;
  plan.shards.emplace_back();
  std::unordered_set<std::string_view> names;
  ShardPlan::Shard open{.file = {}, .tensors = {}, .bytes = 0, .open = true};
  for (const PlannedTensor& tensor : tensors) {
    LATHE_ASSERT(names.insert(tensor.name).second, "plan_shards: tensor '{}' stands twice", tensor.name);
    if (tensor.open) {
      open.tensors.push_back(tensor);
      continue;
    }
    const uint64_t bytes = tensor.info.nbytes();
    const auto filled = checked_add(plan.shards.back().bytes, bytes);
    if (!plan.shards.back().tensors.empty() && (!filled || *filled > shard_size)) plan.shards.emplace_back();
    ShardPlan::Shard& shard = plan.shards.back();
    shard.tensors.push_back(tensor);
    shard.bytes += bytes;
    plan.total_bytes += bytes;
  }
  if (!open.tensors.empty()) plan.shards.push_back(std::move(open));
  if (plan.shards.size() > kMaxShards) {
    user_error("shard_size {}: the model would take {} files, the limit is {}; choose a larger shard_size",
               human_bytes(shard_size), plan.shards.size(), kMaxShards);
  }
  name_shards(plan);
  return plan;
}

struct ShardWriter::State {
  fs::path folder;
  std::vector<std::string> files;
  uint64_t total_bytes = 0;  // of closed shards, then of all
  std::unordered_map<std::string, Place> places;
  std::optional<OpenShard> open;

  void create_open_shard(const ShardPlan::Shard& shard) {
    open.emplace(shard);
    for (const PlannedTensor& tensor : open->plan.tensors) {
      places.emplace(tensor.name, Place{.shard = files.size(),
                                        .offset = 0,
                                        .bytes = tensor.info.nbytes(),
                                        .written = false,
                                        .open = &tensor});
    }
    ShardFile(folder / shard.file, O_CREAT | O_TRUNC).reserve(open->header_bytes);
    files.push_back(shard.file);
  }

  void close_open_shard() {
    const std::string header = format_safetensors_header(open->written, open->header_bytes);
    LATHE_ASSERT(header.size() == open->header_bytes, "ShardWriter: a header of {} bytes, {} reserved",
                 header.size(), open->header_bytes);
    ShardFile(folder / open->plan.file, 0).write_at(0, std::as_bytes(std::span(header)));
  }

  void create_shard(const ShardPlan::Shard& shard) {
    if (shard.open) return create_open_shard(shard);
    const std::string header = format_safetensors_header(shard.tensors);
    uint64_t offset = header.size();
    for (const PlannedTensor& tensor : shard.tensors) {
      const uint64_t bytes = tensor.info.nbytes();
      const bool fresh =
          places.emplace(tensor.name, Place{files.size(), offset, bytes, false, nullptr}).second;
      LATHE_ASSERT(fresh, "ShardWriter: tensor '{}' stands twice in the plan", tensor.name);
      offset += bytes;
    }
    const ShardFile file(folder / shard.file, O_CREAT | O_TRUNC);
    file.reserve(offset);
    file.write_at(0, std::as_bytes(std::span(header)));
    files.push_back(shard.file);
  }

  void write_index() const {
    nlohmann::json weight_map = nlohmann::json::object();
    for (const auto& [name, place] : places) weight_map[name] = files[place.shard];
    const nlohmann::json index = {{"metadata", {{"total_size", total_bytes}}},
                                  {"weight_map", std::move(weight_map)}};
    write_file(folder / "model.safetensors.index.json", index.dump(2) + "\n");
  }
};

ShardWriter::ShardWriter(const ShardPlan& plan, const fs::path& folder) : state_(std::make_unique<State>()) {
  state_->folder = folder;
  state_->total_bytes = plan.total_bytes;
  for (const ShardPlan::Shard& shard : plan.shards) state_->create_shard(shard);
}
ShardWriter::~ShardWriter() = default;
ShardWriter::ShardWriter(ShardWriter&&) noexcept = default;
ShardWriter& ShardWriter::operator=(ShardWriter&&) noexcept = default;

void ShardWriter::write(const std::string& name, std::span<const std::byte> bytes) {
  write(name, bytes, [](std::span<const std::byte>) {});
}

void ShardWriter::write(const std::string& name, std::span<const std::byte> bytes,
                        const std::function<void(std::span<const std::byte>)>& written) {
  const auto found = state_->places.find(name);
  LATHE_ASSERT(found != state_->places.end(), "ShardWriter: tensor '{}' was not planned", name);
  Place& place = found->second;
  LATHE_ASSERT(!place.written, "ShardWriter: tensor '{}' was written before", name);
  LATHE_ASSERT(bytes.size() == place.bytes || (place.open != nullptr && bytes.size() < place.bytes),
               "ShardWriter: tensor '{}': {} bytes planned, {} given", name, place.bytes, bytes.size());
  if (place.open != nullptr) {
    place.offset = state_->open->append(*place.open, bytes.size());
    state_->total_bytes += bytes.size();
  }
  const ShardFile file(state_->folder / state_->files[place.shard], 0);
  for (size_t begin = 0; begin < bytes.size(); begin += kPiece) {
    const auto piece = bytes.subspan(begin, std::min(kPiece, bytes.size() - begin));
    file.write_at(place.offset + begin, piece);
    written(piece);
  }
  place.written = true;
}

void ShardWriter::finish() {
  for (const auto& [name, place] : state_->places) {
    LATHE_ASSERT(place.written, "ShardWriter: tensor '{}' was never written", name);
  }
  if (state_->open) state_->close_open_shard();
  for (const std::string& file : state_->files) ShardFile(state_->folder / file, 0).sync();
  if (state_->files.size() > 1) state_->write_index();
}

uint64_t ShardWriter::bytes_written() const { return state_->total_bytes; }

}  // namespace lathe
