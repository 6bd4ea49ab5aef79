#include "formats/gguf/gguf_split_writer.h"

#include "formats/gguf/gguf_split.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr size_t kMostParts = 65535;  // u16

/// In order, each as full as it may be.
std::vector<std::vector<GgufPlan>> cut(const std::vector<GgufPlan>& tensors, uint64_t part_bytes) {
  std::vector<std::vector<GgufPlan>> parts(1);
  uint64_t filled = 0;
  for (const GgufPlan& tensor : tensors) {
    const uint64_t bytes = align_up(tensor.bytes(), kGgufAlignment);
    if (part_bytes > 0 && !parts.back().empty() && filled + bytes > part_bytes) {
      parts.emplace_back();
      filled = 0;
    }
    parts.back().push_back(tensor);
    filled += bytes;
  }
  return parts;
}

}  // namespace

GgufSplitWriter::GgufSplitWriter(const std::filesystem::path& folder, const std::string& name,
                                 const GgufMetadata& metadata, const std::vector<GgufPlan>& tensors,
                                 uint64_t part_bytes) {
  const std::vector<std::vector<GgufPlan>> parts = cut(tensors, part_bytes);
  const auto count = std::ssize(parts);
  if (parts.size() > kMostParts)
    user_error("{}: {} parts of {} bytes, but a GGUF model has at most {}: raise the size of a part",
               (folder / name).string(), count, part_bytes, kMostParts);
  for (int64_t i = 0; i < count; ++i) {
    GgufMetadata keys = i == 0 ? metadata : GgufMetadata{};
    if (count > 1) {
      const GgufMetadata place = split_keys({i, count, std::ssize(tensors)});
      keys.insert(keys.end(), place.begin(), place.end());
    }
    const std::string file = count > 1 ? split_name(name, i, count) : name + ".gguf";
    parts_.push_back(std::make_unique<GgufWriter>(folder / file, keys, parts[static_cast<size_t>(i)]));
    for (const GgufPlan& tensor : parts[static_cast<size_t>(i)]) places_[tensor.name] = parts_.back().get();
  }
}

void GgufSplitWriter::write(const std::string& tensor, std::span<const std::byte> bytes, uint64_t begin) {
  const auto found = places_.find(tensor);
  LATHE_ASSERT(found != places_.end(), "GGUF: tensor '{}' was not planned", tensor);
  found->second->write(tensor, bytes, begin);
}

void GgufSplitWriter::finish() {
  for (const auto& part : parts_) part->finish();
}

}  // namespace lathe
