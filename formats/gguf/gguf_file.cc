#include "formats/gguf/gguf_file.h"

#include <cstring>
#include <fstream>
#include <limits>

#include "formats/gguf/gguf_cursor.h"
#include "formats/gguf/gguf_split.h"
#include "formats/safetensors/json_text.h"
#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr size_t kMaxDimensions = 4;
constexpr uint64_t kMaxAlignment = 1 << 20;
// The least that an entry takes: what a count may promise at most.
constexpr uint64_t kLeastKey = 8 + 4 + 1, kLeastTensor = 8 + 4 + 4 + 8;

struct Header {
  uint64_t tensors = 0, keys = 0;
};

Header read_header(GgufCursor& cursor) {
  const std::string_view magic = cursor.text(kMagic.size(), "magic");
  if (magic != kMagic) cursor.refuse("expected a GGUF file (magic 'GGUF'), found {}", quote_text(magic));
  const auto version = cursor.number<uint32_t>("version");
  if (version != kGgufVersion) {
    cursor.refuse("version: expected {}, found {}{}", kGgufVersion, version,
                  version == 0x03000000 ? " (a big-endian file)" : "");
  }
  Header header;
  header.tensors = cursor.number<uint64_t>("tensor count");
  header.keys = cursor.number<uint64_t>("key count");
  cursor.expect_room(header.tensors, kLeastTensor, "tensor count");
  cursor.expect_room(header.keys, kLeastKey, "key count");
  return header;
}

uint64_t alignment_of(const GgufFile& file, const GgufCursor& cursor) {
  const GgufValue* value = file.find("general.alignment");
  if (value == nullptr) return kGgufAlignment;
  const auto* alignment = std::get_if<uint32_t>(value);
  if (alignment == nullptr || *alignment < 8 || *alignment > kMaxAlignment ||
      (*alignment & (*alignment - 1)) != 0)
    cursor.refuse("general.alignment: expected a u32, a power of two from 8 to {}, found {} {}",
                  kMaxAlignment, name_of(kind_of(*value)), describe(*value));
  return *alignment;
}

/// A tensor's entry: everything but its bytes.
struct Entry {
  GgufTensor tensor;
  uint64_t offset = 0, bytes = 0;
};

uint64_t bytes_of_tensor(const GgufTensor& tensor, const GgufCursor& cursor) {
  uint64_t count = 1;
  for (const int64_t size : tensor.shape) {
    const auto product = checked_mul(count, static_cast<uint64_t>(size));
    if (!product || *product > uint64_t{std::numeric_limits<int64_t>::max()})
      cursor.refuse("tensor {}: its sizes' product does not fit in 63 bits", quote_text(tensor.name));
    count = *product;
  }
  const GgmlTraits& format = traits(tensor.type);
  if (tensor.columns() % format.length != 0) {
    cursor.refuse("tensor {}: rows of {} values can't be cut into {} blocks of {}", quote_text(tensor.name),
                  tensor.columns(), format.name, format.length);
  }
  const auto bytes =
      checked_mul(count / static_cast<uint64_t>(format.length), static_cast<uint64_t>(format.bytes));
  if (!bytes) cursor.refuse("tensor {}: its size does not fit in 64 bits", quote_text(tensor.name));
  return *bytes;
}

Entry read_entry(GgufCursor& cursor) {
  Entry entry;
  entry.tensor.name = cursor.name("a tensor");
  const std::string name = quote_text(entry.tensor.name);
  const auto dimensions = cursor.number<uint32_t>("dimensions of a tensor");
  if (dimensions < 1 || dimensions > kMaxDimensions)
    cursor.refuse("tensor {}: expected 1 to {} dimensions, found {}", name, kMaxDimensions, dimensions);
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto size = cursor.number<uint64_t>("a tensor's sizes");
    if (size < 1 || size > uint64_t{std::numeric_limits<int64_t>::max()})
      cursor.refuse("tensor {}: expected sizes of at least 1, found {}", name, size);
    entry.tensor.shape.insert(entry.tensor.shape.begin(), static_cast<int64_t>(size));
  }
  const auto id = cursor.number<uint32_t>("a tensor's type");
  const auto type = ggml_type_of_id(id);
  if (!type) {
    std::vector<std::string> known;
    for (const GgmlTraits& row : ggml_types()) known.emplace_back(row.name);
    cursor.refuse("tensor {}: its type {} is not one that Lathe reads ({})", name, id, join_words(known));
  }
  entry.tensor.type = *type;
  entry.offset = cursor.number<uint64_t>("a tensor's offset");
  entry.bytes = bytes_of_tensor(entry.tensor, cursor);
  return entry;
}

}  // namespace

int64_t GgufTensor::numel() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

GgufFile GgufFile::open_part(const std::filesystem::path& path) {
  GgufFile result;
  result.path_ = path;
  result.parts_.push_back(path);
  result.files_.push_back(MappedFile::open(path));
  const auto bytes = result.files_.front().bytes();
  GgufCursor cursor(bytes, path.string());
  const Header header = read_header(cursor);
  for (uint64_t i = 0; i < header.keys; ++i) {
    auto [key, value] = cursor.key_value();
    if (!result.keys_.emplace(key, result.metadata_.size()).second)
      cursor.refuse("key {}: stands twice", quote_text(key));
    result.metadata_.emplace_back(std::move(key), std::move(value));
  }
  const uint64_t alignment = alignment_of(result, cursor);
  std::vector<Entry> entries;
  for (uint64_t i = 0; i < header.tensors; ++i) {
    entries.push_back(read_entry(cursor));
    if (!result.names_.emplace(entries.back().tensor.name, i).second)
      cursor.refuse("tensor {}: stands twice", quote_text(entries.back().tensor.name));
  }
  const uint64_t data = align_up(cursor.position(), alignment);
  uint64_t next = 0;  // each fits in the file, so sums of them don't overflow
  for (Entry& entry : entries) {
    const std::string name = quote_text(entry.tensor.name);
    if (entry.offset != next)
      cursor.refuse("tensor {}: expected the offset {}, where the bytes before it end, found {}", name, next,
                    entry.offset);
    if (data > bytes.size() || next > bytes.size() - data || entry.bytes > bytes.size() - data - next) {
      cursor.refuse("tensor {}: {} bytes from {} on are beyond the file's end at {}; is it complete?", name,
                    entry.bytes, data + next, bytes.size());
    }
    entry.tensor.bytes = bytes.subspan(data + next, entry.bytes);
    next = align_up(next + entry.bytes, alignment);
    result.tensors_.push_back(std::move(entry.tensor));
  }
  result.files_.front().release(bytes);
  return result;
}

void GgufFile::append(GgufFile part) {
  for (GgufTensor& tensor : part.tensors_) {
    if (!names_.emplace(tensor.name, tensors_.size()).second)
      user_error("{}: tensor {} stands in a part before it, too", part.path_.string(),
                 quote_text(tensor.name));
    tensor.part = files_.size();
    tensors_.push_back(std::move(tensor));
  }
  parts_.push_back(part.path_);
  files_.push_back(std::move(part.files_.front()));
}

GgufFile GgufFile::open(const std::filesystem::path& path) {
  GgufFile model = open_part(path);
  const auto place = split_place(model);
  if (!place || place->count == 1) return model;
  for (const std::filesystem::path& part : later_parts(model, *place)) {
    GgufFile opened = open_part(part);
    check_part(opened, {static_cast<int64_t>(model.parts_.size()), place->count, place->tensors});
    model.append(std::move(opened));
  }
  if (std::ssize(model.tensors_) != place->tensors) {
    user_error("{}: split.tensors.count: expected {}, found {} in its {} parts", path.string(),
               place->tensors, model.tensors_.size(), place->count);
  }
  return model;
}

void GgufFile::release(const GgufTensor& tensor, std::span<const std::byte> part) const {
  files_[tensor.part].release(part);
}

const GgufValue* GgufFile::find(const std::string& key) const {
  const auto found = keys_.find(key);
  return found == keys_.end() ? nullptr : &metadata_[found->second].second;
}

const GgufTensor* GgufFile::tensor(const std::string& name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? nullptr : &tensors_[found->second];
}

bool is_gguf(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  char magic[4] = {};
  return file.read(magic, sizeof magic) && std::string_view(magic, sizeof magic) == kMagic;
}

}  // namespace lathe
