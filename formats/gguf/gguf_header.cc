#include <fmt/format.h>

#include <bit>
#include <set>
#include <type_traits>

#include "formats/gguf/gguf_writer.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF's numbers are copied as they are");

constexpr size_t kMaxName = 63;  // llama.cpp's GGML_MAX_NAME counts a final 0

class HeaderText {
 public:
  template <class T>
  void number(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void string(const std::string& value) {
    number<uint64_t>(value.size());
    text_ += value;
  }
  void operator()(const std::string& value) { string(value); }
  void operator()(const GgufArray& array) {
    number(static_cast<uint32_t>(array.index()));
    std::visit([this](const auto& values) { elements(values); }, array);
  }
  template <class T>
  void operator()(T value) {
    number(value);
  }

  void pad() { text_.resize(align_up(text_.size(), kGgufAlignment)); }
  std::string take() { return std::move(text_); }
  void magic() { text_ += "GGUF"; }

 private:
  void elements(std::monostate) { internal_error("a GGUF array of arrays"); }
  template <class T>
  void elements(const std::vector<T>& values) {
    number<uint64_t>(values.size());
    for (const T& value : values) (*this)(value);
  }

  std::string text_;
};

}  // namespace

uint64_t GgufPlan::bytes() const {
  uint64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= static_cast<uint64_t>(shape[i]);
  LATHE_ASSERT(!shape.empty() && divides(type, shape.back()), "tensor '{}': rows can't be cut into blocks",
               name);
  return rows * static_cast<uint64_t>(row_bytes(type, shape.back()));
}

std::string format_gguf_header(const GgufMetadata& metadata, const std::vector<GgufPlan>& tensors) {
  HeaderText header;
  header.magic();
  header.number(kGgufVersion);
  header.number<uint64_t>(tensors.size());
  header.number<uint64_t>(metadata.size());
  std::set<std::string> keys, names;
  for (const auto& [key, value] : metadata) {
    LATHE_ASSERT(keys.insert(key).second, "GGUF: key '{}' stands twice", key);
    header.string(key);
    header.number(static_cast<uint32_t>(value.index()));
    std::visit(header, value);
  }
  uint64_t offset = 0;
  for (const GgufPlan& tensor : tensors) {
    LATHE_ASSERT(names.insert(tensor.name).second, "GGUF: tensor '{}' stands twice", tensor.name);
    if (tensor.name.size() > kMaxName)
      user_error("tensor '{}': a GGUF file's names have at most {} bytes, this one {}", tensor.name, kMaxName,
                 tensor.name.size());
    header.string(tensor.name);
    header.number(static_cast<uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size)
      header.number(static_cast<uint64_t>(*size));
    header.number(traits(tensor.type).id);
    header.number(offset);
    offset = align_up(offset + tensor.bytes(), kGgufAlignment);
  }
  header.pad();
  return header.take();
}

}  // namespace lathe
