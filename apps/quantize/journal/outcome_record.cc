#include "apps/quantize/journal/outcome_record.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "apps/quantize/journal/outcome_fields.h"
#include "formats/targets/bitpack.h"
#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

enum class Form : uint8_t { undefined, plain, packed, shorter, again };

/// Numbers that a file may hold for an enumeration: 0 to this.
template <class Enum>
constexpr std::underlying_type_t<Enum> last_of();
template <>
constexpr uint8_t last_of<Form>() {
  return static_cast<uint8_t>(Form::again);
}
template <>
constexpr uint8_t last_of<DType>() {
  return static_cast<uint8_t>(DType::BOOL);
}
template <>
constexpr int last_of<ActivationScheme::Per>() {
  return static_cast<int>(ActivationScheme::Per::group);
}
template <>
constexpr uint8_t last_of<KvCacheWeights>() {
  return static_cast<uint8_t>(KvCacheWeights::fisher);
}
template <>
constexpr int last_of<Slot>() {
  return kSlotCount - 1;
}
template <>
constexpr int8_t last_of<c10::ScalarType>() {
  return static_cast<int8_t>(c10::ScalarType::NumOptions) - 1;
}

constexpr int64_t kWideRow = 256;  // values; shorter rows lose too much at their ends, where words do

/// A matrix's own rows where they are wide, else one.
int64_t packed_rows(at::IntArrayRef sizes, int64_t count) {
  return sizes.size() == 2 && sizes[1] >= kWideRow ? sizes[0] : (count > 0 ? 1 : 0);
}

bool is_packed(const at::Tensor& tensor) {
  return tensor.numel() > 0 && (tensor.scalar_type() == at::kChar || tensor.scalar_type() == at::kByte);
}

/// Whose values are worth a look, and which may be named again.
bool is_large(c10::ScalarType dtype, int64_t count) { return dtype == at::kFloat && count >= 4096; }

/// The type of two bytes that holds all values; nothing where none does.
std::optional<c10::ScalarType> shorter_type(const at::Tensor& tensor) {
  for (const c10::ScalarType type : {at::kBFloat16, at::kHalf})
    if (tensor.to(type).to(at::kFloat).equal(tensor)) return type;
  return std::nullopt;
}

/// Where the values of a tensor of bytes lie.
struct ByteRange {
  uint8_t least = 0;  // as it stands in memory
  uint8_t bits = 0;   // of (value - least) mod 256; 0: all are equal
};

ByteRange range_of(const at::Tensor& tensor) {
  const auto [least, most] = at::aminmax(tensor);
  const int low = least.item<int>(), high = most.item<int>();
  return {static_cast<uint8_t>(low), static_cast<uint8_t>(std::bit_width(static_cast<unsigned>(high - low)))};
}

/// Writes, or only counts where there is no sink.
class Writer {
 public:
  Writer(const Block& block, const std::function<void(std::span<const std::byte>)>* sink)
      : block_(block), sink_(sink) {}

  template <class... Fields>
  void operator()(const Fields&... fields) {
    (put(fields), ...);
  }
  uint64_t bytes() const { return bytes_; }

 private:
  void give(std::span<const std::byte> bytes) {
    bytes_ += bytes.size();
    if (sink_ != nullptr) (*sink_)(bytes);
  }

  template <class T>
  void put(const T& value) {
    if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
      give(std::as_bytes(std::span(&value, 1)));
    } else {
      visit_fields(value, *this);
    }
  }
  void put(const std::string& text) {
    put(uint64_t{text.size()});
    give(std::as_bytes(std::span(text)));
  }
  template <class T>
  void put(const std::optional<T>& value) {
    put(value.has_value());
    if (value) put(*value);
  }
  template <class T>
  void put(const std::vector<T>& values) {
    put(uint64_t{values.size()});
    for (const T& value : values) put(value);
  }
  void put(const std::map<std::string, at::Tensor>& tensors) {
    put(uint64_t{tensors.size()});
    for (const auto& [name, tensor] : tensors) (*this)(name, tensor);
  }
  void put(const Linear* linear) { put_place(linear, block_.linears); }
  void put(const ScaleEdge* edge) { put_place(edge, block_.edges); }

  template <class T>
  void put_place(const T* element, const std::vector<T>& all) {
    const auto place = static_cast<uint64_t>(element - all.data());
    LATHE_ASSERT(place < all.size(), "{}: an outcome of another block's linear or edge", block_.prefix);
    put(place);
  }

  void put(const at::Tensor& tensor) {
    if (!tensor.defined()) return put(Form::undefined);
    std::optional<c10::ScalarType> shorter;
    if (is_large(tensor.scalar_type(), tensor.numel())) {
      const auto before = std::ranges::find_if(large_, [&](const at::Tensor& one) {
        return one.data_ptr() == tensor.data_ptr() && one.sizes() == tensor.sizes() &&
               one.strides() == tensor.strides();
      });
      if (before != large_.end()) return (*this)(Form::again, static_cast<uint64_t>(before - large_.begin()));
      large_.push_back(tensor);
      shorter = shorter_type(tensor);
    }
    const bool packed = is_packed(tensor);
    (*this)(packed    ? Form::packed
            : shorter ? Form::shorter
                      : Form::plain,
            tensor.scalar_type(), static_cast<uint8_t>(tensor.dim()));
    for (const int64_t size : tensor.sizes()) put(size);
    if (packed) return put_packed(tensor);
    if (shorter) put(*shorter);
    if (sink_ == nullptr) {
      bytes_ +=
          static_cast<uint64_t>(tensor.numel()) * c10::elementSize(shorter.value_or(tensor.scalar_type()));
    } else {
      give(bytes_of((shorter ? tensor.to(*shorter) : tensor).contiguous()));
    }
  }

  void put_packed(const at::Tensor& tensor) {
    const ByteRange range = range_of(tensor);
    (*this)(range.least, range.bits);
    if (range.bits == 0) return;
    const int64_t rows = packed_rows(tensor.sizes(), tensor.numel()), width = tensor.numel() / rows;
    if (sink_ == nullptr) {
      bytes_ += static_cast<uint64_t>(4 * rows * packed_words(width, range.bits));
      return;
    }
    const at::Tensor fields = tensor.contiguous().view(at::kByte).sub(range.least).view({rows, width});
    give(bytes_of(pack_rows(fields, range.bits)));
  }

  const Block& block_;
  const std::function<void(std::span<const std::byte>)>* sink_;
  uint64_t bytes_ = 0;
  std::vector<at::Tensor> large_;
};

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const Block& block) : left_(bytes), block_(block) {
    for (const Linear& linear : block.linears)
      most_equal_ = std::max(most_equal_, static_cast<uint64_t>(linear.out * linear.in));
  }

  template <class... Fields>
  void operator()(Fields&... fields) {
    (get(fields), ...);
  }
  void end() const {
    if (!left_.empty()) malformed("bytes after its end");
  }

 private:
  [[noreturn]] void malformed(const char* what) const {
    user_error("journal: the record of block '{}' is malformed: {}; start anew with --overwrite",
               block_.prefix, what);
  }

  std::span<const std::byte> take(uint64_t bytes) {
    if (bytes > left_.size()) malformed("it ends too early");
    const auto taken = left_.first(bytes);
    left_ = left_.subspan(bytes);
    return taken;
  }

  template <class T>
  void get(T& value) {
    if constexpr (std::is_arithmetic_v<T>) {
      std::memcpy(&value, take(sizeof value).data(), sizeof value);
    } else if constexpr (std::is_enum_v<T>) {
      std::underlying_type_t<T> number = 0;
      get(number);
      if (number < 0 || number > last_of<T>()) malformed("a number that stands for nothing");
      value = static_cast<T>(number);
    } else {
      visit_fields(value, *this);
    }
  }
  void get(bool& value) {
    uint8_t byte = 0;
    get(byte);
    if (byte > 1) malformed("a flag that is neither 0 nor 1");
    value = byte == 1;
  }
  void get(std::string& text) {
    const auto bytes = take(count());
    text.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  template <class T>
  void get(std::optional<T>& value) {
    bool there = false;
    get(there);
    if (there) get(value.emplace());
  }
  template <class T>
  void get(std::vector<T>& values) {
    values.clear();
    for (uint64_t left = count(); left > 0; --left) get(values.emplace_back());
  }
  void get(std::map<std::string, at::Tensor>& tensors) {
    for (uint64_t left = count(); left > 0; --left) {
      std::string name;
      get(name);
      get(tensors[name]);
    }
  }
  void get(const Linear*& linear) { linear = place(block_.linears); }
  void get(const ScaleEdge*& edge) { edge = place(block_.edges); }

  template <class T>
  const T* place(const std::vector<T>& all) {
    uint64_t number = 0;
    get(number);
    if (number >= all.size()) malformed("a linear or edge that the block has not");
    return &all[number];
  }

  /// Of elements, each of a byte at least.
  uint64_t count() {
    uint64_t number = 0;
    get(number);
    if (number > left_.size()) malformed("it ends too early");
    return number;
  }

  void get(at::Tensor& tensor) {
    Form form = Form::undefined;
    get(form);
    tensor.reset();
    if (form == Form::undefined) return;
    if (form == Form::again) {
      uint64_t number = 0;
      get(number);
      if (number >= large_.size()) malformed("a tensor that didn't stand before");
      tensor = large_[number];
      return;
    }
    c10::ScalarType dtype = at::kFloat;
    uint8_t dimensions = 0;
    (*this)(dtype, dimensions);
    if (!c10::isIntegralType(dtype, /*includeBool=*/true) && !c10::isFloatingType(dtype))
      malformed("a tensor of no numbers");
    if (dimensions > kMostDimensions) malformed("a tensor of too many dimensions");
    std::vector<int64_t> sizes(dimensions);
    uint64_t values = 1;
    std::optional<uint64_t> room = c10::elementSize(dtype);  // an empty one's sizes must not overflow, either
    for (int64_t& size : sizes) {
      get(size);
      if (size >= 0 && room) room = checked_mul(*room, static_cast<uint64_t>(std::max<int64_t>(size, 1)));
      if (size < 0 || !room || *room > kMostBytes) malformed("a tensor without end");
      values *= static_cast<uint64_t>(size);
    }
    tensor = form == Form::packed    ? get_packed(dtype, sizes, values)
             : form == Form::shorter ? get_shorter(dtype, sizes, values)
                                     : get_plain(dtype, sizes, values);
    if (is_large(dtype, tensor.numel())) large_.push_back(tensor);
  }

  at::Tensor get_shorter(c10::ScalarType dtype, const std::vector<int64_t>& sizes, uint64_t values) {
    c10::ScalarType stored = dtype;
    get(stored);
    if (dtype != at::kFloat || (stored != at::kBFloat16 && stored != at::kHalf))
      malformed("values of no known width");
    return get_plain(stored, sizes, values).to(dtype);
  }

  at::Tensor get_plain(c10::ScalarType dtype, const std::vector<int64_t>& sizes, uint64_t values) {
    const auto bytes = take(values * c10::elementSize(dtype));
    at::Tensor tensor = at::empty(sizes, dtype);
    if (!bytes.empty()) std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
    return tensor;
  }

  at::Tensor get_packed(c10::ScalarType dtype, const std::vector<int64_t>& sizes, uint64_t values) {
    ByteRange range;
    (*this)(range.least, range.bits);
    if ((dtype != at::kChar && dtype != at::kByte) || range.bits > 8) malformed("values of no known width");
    const auto count = static_cast<int64_t>(values);
    const int64_t rows = packed_rows(sizes, count), width = rows > 0 ? count / rows : 0;
    if (range.bits == 0) {  // no bytes bound their number
      if (values > most_equal_) malformed("a tensor larger than any linear");
      return at::full({count}, range.least, at::kByte).view(dtype).view(sizes);
    }
    const int64_t words = packed_words(width, range.bits);
    const auto bytes = take(static_cast<uint64_t>(rows * words) * 4);
    at::Tensor packed = at::empty({rows, words}, at::kInt);
    if (!bytes.empty()) std::memcpy(packed.data_ptr(), bytes.data(), bytes.size());
    return unpack_rows(packed, range.bits, width).add_(range.least).view(dtype).view(sizes);
  }

  static constexpr uint8_t kMostDimensions = 8;
  static constexpr uint64_t kMostBytes = uint64_t{1} << 48;

  std::span<const std::byte> left_;
  const Block& block_;
  uint64_t most_equal_ = 1;
  std::vector<at::Tensor> large_;
};

}  // namespace

uint64_t outcome_bytes(const BlockOutcome& outcome, const ModelGraph& graph) {
  Writer writer(graph.part(outcome.index), nullptr);
  writer(outcome);
  return writer.bytes();
}

void write_outcome(const BlockOutcome& outcome, const ModelGraph& graph,
                   const std::function<void(std::span<const std::byte>)>& sink) {
  Writer writer(graph.part(outcome.index), &sink);
  writer(outcome);
}

BlockOutcome read_outcome(std::span<const std::byte> bytes, const ModelGraph& graph) {
  uint64_t index = 0;  // the first field
  if (bytes.size() < sizeof index) user_error("journal: a record of {} bytes is no block's", bytes.size());
  std::memcpy(&index, bytes.data(), sizeof index);
  if (index > graph.blocks.size())
    user_error("journal: a record of block {} of a model of {}", index, graph.blocks.size());
  BlockOutcome outcome;
  Reader reader(bytes, graph.part(index));
  reader(outcome);
  reader.end();
  return outcome;
}

}  // namespace lathe
