#include "formats/safetensors/safetensors_header.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <string_view>
#include <tuple>

#include "formats/safetensors/json_text.h"
#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/base/terminal.h"

namespace lathe {
namespace {

using nlohmann::json;
static_assert(std::endian::native == std::endian::little, "safetensors is little-endian and read in place");

constexpr std::string_view kMetadataKey = "__metadata__";
constexpr size_t kLengthBytes = 8;
constexpr size_t kDataAlignment = 8;
constexpr int kHeaderDepth = 3;            // header, tensor, shape
constexpr size_t kMaxName = 4096;          // a hundred times a real one; recipes' std::regex recurses with it
constexpr size_t kMaxValuesATensor = 256;  // dtype, two offsets, and a rank far above ATen's 64

/// Collects the tensors while the parser runs and drops each parsed value at once, so that memory grows with
/// the number of tensors, never with what a hostile header puts into them.
class HeaderCollector {
 public:
  HeaderCollector(const std::string& path, uint64_t data_start, uint64_t file_size, SafetensorsHeader& header)
      : path_(path), data_start_(data_start), file_size_(file_size), header_(header) {}

  bool operator()(int depth, json::parse_event_t event, json& parsed) {
    using Event = json::parse_event_t;
    if (depth == 0) return true;
    if (depth == 1 && event == Event::key) start_entry(parsed.get_ref<const std::string&>());
    if (depth == 1 && (event == Event::value || event == Event::array_start)) fail("expected an object");
    if (depth > 1 && event == Event::value && !in_metadata() && ++values_ > kMaxValuesATensor) {
      fail("more than {} numbers in its entry", kMaxValuesATensor);
    }
    if (depth != 1 || event != Event::object_end) return true;
    in_metadata() ? read_metadata(parsed) : read_tensor(parsed);
    return false;
  }

 private:
  template <class... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) const {
    user_error("{}: {} {}: {}", path_, in_metadata() ? "header entry" : "tensor", quote_text(name_),
               fmt::format(text, std::forward<Args>(args)...));
  }
  bool in_metadata() const { return name_ == kMetadataKey; }

  void start_entry(const std::string& name) {
    name_ = name;
    values_ = 0;
    if (name.size() > kMaxName) fail("its name has {} bytes, expected at most {}", name.size(), kMaxName);
    if (std::ranges::any_of(name, is_control)) fail("its name holds a control character");
  }

  void read_metadata(const json& entry) {
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) fail("{}: expected a string, found {}", quote_text(key), value.type_name());
      header_.metadata[key] = value.get<std::string>();
    }
  }

  void read_tensor(const json& entry) {
    StoredTensor tensor{name_, {read_dtype(entry), read_shape(entry)}};
    const uint64_t bytes = checked_size(tensor.info);
    const auto [begin, end] = read_offsets(entry);
    if (begin > end) fail("data_offsets [{}, {}] are reversed", begin, end);
    if (end - begin != bytes) {
      fail("{} takes {} bytes, but data_offsets [{}, {}] span {}", tensor.info.describe(), bytes, begin, end,
           end - begin);
    }
    if (end > file_size_ - data_start_) {
      fail(
          "its data ends at byte {} after the header, but the file holds only {}; it is truncated or "
          "damaged: download "
          "it again",
          end, file_size_ - data_start_);
    }
    tensor.begin = data_start_ + begin;
    tensor.end = data_start_ + end;
    header_.tensors.push_back(std::move(tensor));
  }

  const json& member(const json& entry, const char* key) const {
    const auto found = entry.find(key);
    if (found == entry.end()) fail("its entry has no '{}'", key);
    return *found;
  }

  DType read_dtype(const json& entry) const {
    const json& value = member(entry, "dtype");
    if (!value.is_string()) fail("dtype: expected a string, found {}", value.type_name());
    const auto& name = value.get_ref<const std::string&>();
    const auto dtype = parse_dtype(name);
    if (!dtype) fail("unknown dtype {}", quote_text(name));
    return *dtype;
  }

  std::vector<int64_t> read_shape(const json& entry) const {
    const json& value = member(entry, "shape");
    if (!value.is_array()) fail("shape: expected a list, found {}", value.type_name());
    std::vector<int64_t> shape;
    for (const json& extent : value) {
      if (!extent.is_number_unsigned() || extent.get<uint64_t>() > std::numeric_limits<int64_t>::max()) {
        fail("shape: expected whole numbers from 0 to 2^63 - 1, found {}", shown(extent));
      }
      shape.push_back(extent.get<int64_t>());
    }
    return shape;
  }

  std::pair<uint64_t, uint64_t> read_offsets(const json& entry) const {
    const json& value = member(entry, "data_offsets");
    if (!value.is_array() || value.size() != 2)
      fail("data_offsets: expected two numbers, found {}", shown(value));
    for (const json& offset : value) {
      if (!offset.is_number_unsigned())
        fail("data_offsets: expected whole numbers from 0, found {}", shown(offset));
    }
    return {value[0].get<uint64_t>(), value[1].get<uint64_t>()};
  }

  /// A zero extent counts as one in the check: ATen multiplies the strides of empty tensors too.
  uint64_t checked_size(const TensorInfo& info) const {
    std::optional<uint64_t> bytes = traits(info.dtype).bytes;
    for (const int64_t extent : info.shape) {
      if (bytes) bytes = checked_mul(*bytes, static_cast<uint64_t>(std::max<int64_t>(extent, 1)));
    }
    if (!bytes || *bytes > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      fail("shape {} of {} overflows 64 bits", quote_text(describe_shape(info.shape)), name_of(info.dtype));
    }
    return info.nbytes();
  }

  static std::string shown(const json& value) {
    return quote_text(value.dump(-1, ' ', true, json::error_handler_t::replace));
  }

  const std::string& path_;
  uint64_t data_start_, file_size_;
  SafetensorsHeader& header_;
  std::string name_;
  size_t values_ = 0;
};

uint64_t read_header_length(std::span<const std::byte> file, const std::string& path) {
  if (file.size() < kLengthBytes) {
    user_error("{}: {} bytes, too short for a safetensors file (its header length alone takes 8)", path,
               file.size());
  }
  uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  if (length > kMaxSafetensorsHeader) {
    user_error("{}: not a safetensors file: it claims a header of {} bytes, the limit is {}", path, length,
               kMaxSafetensorsHeader);
  }
  if (length > file.size() - kLengthBytes) {
    user_error(
        "{}: its header should take {} bytes, but only {} follow; the file is truncated: download it again",
        path, length, file.size() - kLengthBytes);
  }
  return length;
}

/// The spec wants the tensors to fill the data exactly: a hole can hide bytes, an overlap can alias them.
void check_coverage(const SafetensorsHeader& header, uint64_t data_start, uint64_t file_size,
                    const std::string& path) {
  uint64_t expected = data_start;
  for (const StoredTensor& tensor : header.tensors) {
    if (tensor.begin != expected) {
      user_error("{}: tensor {}: its data starts at byte {} of the file, expected {}: {}", path,
                 quote_text(tensor.name), tensor.begin, expected,
                 tensor.begin < expected ? "it overlaps another tensor" : "there is a hole before it");
    }
    expected = tensor.end;
  }
  if (expected != file_size) {
    user_error("{}: {} bytes follow the last tensor; expected none", path, file_size - expected);
  }
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, const std::string& path) {
  const uint64_t length = read_header_length(file, path);
  const uint64_t data_start = kLengthBytes + length;
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
  if (!text.starts_with('{')) user_error("{}: header: expected JSON that starts with '{{'", path);

  SafetensorsHeader header;
  HeaderCollector collect(path, data_start, file.size(), header);
  parse_json_object(text, path + ": header", kHeaderDepth, std::ref(collect));
  std::sort(header.tensors.begin(), header.tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  check_coverage(header, data_start, file.size(), path);
  return header;
}

std::string format_safetensors_header(std::span<const PlannedTensor> tensors, uint64_t room,
                                      const std::map<std::string, std::string>& metadata) {
  // Composed by hand: nlohmann's object that keeps its order searches linearly, and a shard can hold 100,000
  // tensors. transformers refuses files without a known format.
  std::string text = R"({"__metadata__":)" + json(metadata).dump();
  uint64_t offset = 0;
  for (const PlannedTensor& tensor : tensors) {
    LATHE_ASSERT(tensor.name != kMetadataKey, "a tensor is named {}", kMetadataKey);
    const uint64_t end = offset + tensor.info.nbytes();
    text += fmt::format(R"(,{}:{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", json(tensor.name).dump(),
                        name_of(tensor.info.dtype), json(tensor.info.shape).dump(), offset, end);
    offset = end;
  }
  text += '}';
  if (text.size() + kLengthBytes < room) text.resize(room - kLengthBytes, ' ');
  text.resize((text.size() + kDataAlignment - 1) / kDataAlignment * kDataAlignment, ' ');
  LATHE_ASSERT(text.size() <= kMaxSafetensorsHeader, "a header of {} bytes", text.size());
  const uint64_t length = text.size();
  std::string bytes(kLengthBytes, '\0');
  std::memcpy(bytes.data(), &length, kLengthBytes);
  return bytes + text;
}

}  // namespace lathe
