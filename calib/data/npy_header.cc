#include "calib/data/npy_header.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <string_view>

#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kMaxDimensions = 32;  // NumPy's own limit

/// Reads the dict literal from left to right; only the forms that NumPy writes.
class DictReader {
 public:
  DictReader(std::string_view text, const std::string& path) : rest_(text), path_(path) {}

  void expect(char c) {
    if (!take(c)) malformed(fmt::format("'{}'", c));
  }
  bool take(char c) {
    skip_spaces();
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  std::string quoted() {
    skip_spaces();
    const char quote = rest_.empty() ? '\0' : rest_.front();
    if (quote != '\'' && quote != '"') malformed("a quoted text (structured dtypes hold no token ids)");
    const size_t end = rest_.find(quote, 1);
    if (end == std::string_view::npos) malformed("a closing quote");
    std::string text(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return text;
  }
  bool truth() {
    skip_spaces();
    for (const auto& [word, value] : {std::pair<std::string_view, bool>{"True", true}, {"False", false}}) {
      if (!rest_.starts_with(word)) continue;
      rest_.remove_prefix(word.size());
      return value;
    }
    malformed("True or False");
  }
  int64_t size() {
    skip_spaces();
    int64_t value = 0;
    const auto [end, code] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (code != std::errc() || value < 0) malformed("a size");
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    return value;
  }
  bool at_end() {
    skip_spaces();
    return rest_.empty();
  }
  [[noreturn]] void malformed(const std::string& expected) const {
    user_error("{}: malformed .npy header: expected {}", path_, expected);
  }

 private:
  void skip_spaces() {
    const size_t start = std::min(rest_.find_first_not_of(" \t\r\n"), rest_.size());
    rest_.remove_prefix(start);
  }
  std::string_view rest_;
  const std::string& path_;
};

std::vector<int64_t> read_shape(DictReader& reader) {
  std::vector<int64_t> shape;
  reader.expect('(');
  while (!reader.take(')')) {
    if (shape.size() == kMaxDimensions) reader.malformed("at most 32 dimensions");
    shape.push_back(reader.size());
    if (!reader.take(',')) {
      reader.expect(')');
      break;
    }
  }
  return shape;
}

void read_dict(DictReader& reader, NpyHeader& header) {
  std::optional<std::string> descr;
  std::optional<bool> fortran_order;
  std::optional<std::vector<int64_t>> shape;
  reader.expect('{');
  while (!reader.take('}')) {
    const std::string key = reader.quoted();
    reader.expect(':');
    if (key == "descr" && !descr) {
      descr = reader.quoted();
    } else if (key == "fortran_order" && !fortran_order) {
      fortran_order = reader.truth();
    } else if (key == "shape" && !shape) {
      shape = read_shape(reader);
    } else {
      reader.malformed("the keys descr, fortran_order and shape, each once");
    }
    if (!reader.take(',')) {
      reader.expect('}');
      break;
    }
  }
  if (!reader.at_end()) reader.malformed("nothing after the dict");
  if (!descr || !fortran_order || !shape) reader.malformed("the keys descr, fortran_order and shape");
  header.descr = *descr;
  header.fortran_order = *fortran_order;
  header.shape = *shape;
}

}  // namespace

NpyHeader parse_npy_header(std::span<const std::byte> file, const std::string& path) {
  const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());
  if (!bytes.starts_with(kMagic)) user_error("{}: not a .npy file: it doesn't begin with \\x93NUMPY", path);
  const auto byte = [&](size_t i) { return static_cast<size_t>(static_cast<unsigned char>(bytes[i])); };
  const size_t begin = bytes.size() > 6 && byte(6) == 1 ? 10 : 12;
  if (bytes.size() < begin) user_error("{}: truncated .npy file: the header is cut off", path);
  if (byte(6) < 1 || byte(6) > 3)
    user_error("{}: .npy version {}.{} is not supported; expected 1.0 to 3.0", path, byte(6), byte(7));
  size_t length = byte(8) | byte(9) << 8;
  if (begin == 12) length |= byte(10) << 16 | byte(11) << 24;
  if (length > bytes.size() - begin) user_error("{}: truncated .npy file: the header is cut off", path);
  NpyHeader header;
  DictReader reader(bytes.substr(begin, length), path);
  read_dict(reader, header);
  header.data_begin = begin + length;
  return header;
}

std::string format_npy_header(const std::vector<int64_t>& shape) {
  LATHE_ASSERT(!shape.empty() && shape.size() <= 2, "arrays of {} dimensions", shape.size());
  std::string dict =
      shape.size() == 1
          ? fmt::format("{{'descr': '<i8', 'fortran_order': False, 'shape': ({},), }}", shape[0])
          : fmt::format("{{'descr': '<i8', 'fortran_order': False, 'shape': ({}, {}), }}", shape[0],
                        shape[1]);
  constexpr size_t kPrefix = 10, kAlign = 64;
  dict.append((kAlign - (kPrefix + dict.size() + 1) % kAlign) % kAlign, ' ');
  dict += '\n';
  std::string header(kMagic);
  header += {'\x01', '\x00', static_cast<char>(dict.size() & 0xff), static_cast<char>(dict.size() >> 8)};
  return header + dict;
}

}  // namespace lathe
