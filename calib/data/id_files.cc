// Token ids from .npy and .safetensors.
#include <algorithm>
#include <cstring>

#include "calib/data/attention_mask.h"
#include "calib/data/id_rows.h"
#include "calib/data/npy_header.h"
#include "calib/data/readers.h"
#include "calib/data/token_weights.h"
#include "formats/safetensors/safetensors_header.h"
#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

/// Rows of ids, row-major: what both formats come down to.
struct IdArray {
  std::string name;  // "a.npy", "a.safetensors: input_ids"
  std::span<const std::byte> bytes;
  IdFormat format;
  std::vector<int64_t> shape;  // [length] or [rows, length]
  std::vector<Attended> rows;  // of each row, what is not padding; empty: all
  std::vector<float> weights;  // of all ids, padding included; empty: each counts once
};

void check_shape(const IdArray& array) {
  const bool good = array.shape.size() == 1 || array.shape.size() == 2;
  if (!good) {
    user_error("{}: expected token ids of shape [length] or [rows, length], found {}", array.name,
               describe_shape(array.shape));
  }
  if (std::find(array.shape.begin(), array.shape.end(), 0) != array.shape.end())
    user_error("{}: shape {} holds no token ids", array.name, describe_shape(array.shape));
}

/// Lets the pages of rows that were read go, some at a time.
class RowPages {
 public:
  RowPages(const MappedFile& file, std::span<const std::byte> rows) : file_(file), rows_(rows) {}
  void read_to(size_t end) {
    if (end - begin_ < kReadPiece && end < rows_.size()) return;
    file_.release(rows_.subspan(begin_, end - begin_));
    begin_ = end;
  }

 private:
  const MappedFile& file_;
  std::span<const std::byte> rows_;
  size_t begin_ = 0;
};

void visit_rows(const IdArray& array, const MappedFile& file, const DocumentVisit& visit) {
  const int64_t length = array.shape.back(), rows = array.shape.size() == 2 ? array.shape[0] : 1;
  const size_t stride = static_cast<size_t>(length) * static_cast<size_t>(array.format.bytes);
  RowPages pages(file, array.bytes);
  for (int64_t row = 0; row < rows; ++row) {
    const Attended kept = array.rows.empty() ? Attended{0, length} : array.rows[static_cast<size_t>(row)];
    const auto before = static_cast<size_t>(kept.begin) * static_cast<size_t>(array.format.bytes);
    const std::vector<int64_t> ids =
        read_ids(array.bytes.subspan(static_cast<size_t>(row) * stride + before, stride - before),
                 array.format, kept.length);
    const std::string place =
        array.shape.size() == 2 ? fmt::format("{}: row {}", array.name, row) : array.name;
    std::span<const float> weights = array.weights;
    if (!weights.empty())
      weights =
          weights.subspan(static_cast<size_t>(row * length + kept.begin), static_cast<size_t>(kept.length));
    visit({.form = Document::Form::ids, .text = {}, .ids = ids, .place = place, .weights = weights});
    pages.read_to((static_cast<size_t>(row) + 1) * stride);
  }
}

/// Of rows of ids: the pages, and a row in 8 bytes an id. `bytes`: of all rows; an id has one at least, so
/// that a shape that lies doesn't count.
ReadingNeed need_of_rows(const std::vector<int64_t>& shape, uint64_t bytes) {
  const auto rows = shape.size() == 2 ? static_cast<uint64_t>(shape[0]) : 1;
  const uint64_t row = bytes / std::max<uint64_t>(rows, 1);
  const uint64_t ids = shape.empty() ? 0 : std::min(static_cast<uint64_t>(shape.back()), row);
  const uint64_t need = std::max(mapped_while_read(bytes), row) + ids * sizeof(int64_t);
  return {need, need, ids * rows, fmt::format("its rows of {} ids", ids), "cut them into shorter rows"};
}

void add_weights(ReadingNeed& need, uint64_t bytes) {
  need.what += " and their token_weights, which are held as a whole,";
  need.most = need.least += bytes;
}

IdFormat npy_format(const NpyHeader& header, const std::string& path) {
  const std::string& d = header.descr;  // byte order, kind, size
  const bool known = d.size() == 3 && (d[1] == 'i' || d[1] == 'u') &&
                     std::string_view("1248").find(d[2]) != std::string_view::npos &&
                     (d[0] == '<' || d[0] == '|');
  if (!known) {
    user_error(
        "{}: expected little-endian integers ('<i4', '<i8', '<u2', ...), found dtype '{}'; save token ids "
        "with ids.astype('<i4')",
        path, d);
  }
  return {d[2] - '0', d[1] == 'i'};
}

/// `found`: bytes behind the header; `element_bytes`: of an element.
void check_npy_size(const NpyHeader& header, size_t found, int element_bytes, const std::string& path) {
  std::optional<uint64_t> bytes = static_cast<uint64_t>(element_bytes);
  for (const int64_t size : header.shape)
    bytes = bytes ? checked_mul(*bytes, static_cast<uint64_t>(size)) : std::nullopt;
  if (bytes && *bytes == found) return;
  user_error("{}: {} .npy file: shape {} of '{}' needs {} bytes of data, found {}", path,
             !bytes || *bytes > found ? "truncated" : "malformed", describe_shape(header.shape), header.descr,
             bytes ? std::to_string(*bytes) : "more than 2^64", found);
}

void check_c_order(const NpyHeader& header, const std::string& path) {
  if (!header.fortran_order || header.shape.size() < 2) return;
  user_error(
      "{}: expected C order (rows one after the other), found Fortran order; save np.ascontiguousarray(...)",
      path);
}

/// Where the weights of a.npy's ids stand, if there are some: a.weights.npy.
std::optional<std::filesystem::path> npy_weights_file(const DataSource& source) {
  std::filesystem::path file = source.path;
  file.replace_extension(".weights.npy");
  return std::filesystem::exists(file) ? std::optional(file) : std::nullopt;
}

template <class Float>
std::vector<float> floats_of(std::span<const std::byte> bytes) {
  std::vector<float> values(bytes.size() / sizeof(Float));
  for (size_t i = 0; i < values.size(); ++i) {
    Float value;
    std::memcpy(&value, bytes.data() + i * sizeof(Float), sizeof(Float));
    values[i] = static_cast<float>(value);
  }
  return values;
}

/// Of ids of that shape, in a file of their own.
std::vector<float> read_npy_weights(const std::filesystem::path& file, const std::vector<int64_t>& shape) {
  const std::string path = file.string();
  const MappedFile mapped = MappedFile::open(file);
  const NpyHeader header = parse_npy_header(mapped.bytes(), path);
  const bool wide = header.descr == "<f8";
  if (!wide && header.descr != "<f4")
    user_error("{}: expected token weights of dtype '<f4' or '<f8', found '{}'", path, header.descr);
  if (header.shape != shape) {
    user_error("{}: expected the shape of the token ids, {}, found {}", path, describe_shape(shape),
               describe_shape(header.shape));
  }
  check_c_order(header, path);
  const std::span<const std::byte> bytes = mapped.bytes().subspan(header.data_begin);
  check_npy_size(header, bytes.size(), wide ? 8 : 4, path);
  std::vector<float> weights = wide ? floats_of<double>(bytes) : floats_of<float>(bytes);
  check_token_weights(weights, path);
  return weights;
}

const StoredTensor* find_tensor(const SafetensorsHeader& header, const std::string& name) {
  const auto found = std::find_if(header.tensors.begin(), header.tensors.end(),
                                  [&](const StoredTensor& t) { return t.name == name; });
  return found == header.tensors.end() ? nullptr : &*found;
}

const StoredTensor& choose_tensor(const SafetensorsHeader& header, const DataSource& source) {
  const std::string wanted = source.field.empty() ? "input_ids" : source.field;
  if (const StoredTensor* tensor = find_tensor(header, wanted)) return *tensor;
  if (source.field.empty() && header.tensors.size() == 1) return header.tensors.front();
  std::vector<std::string> names;
  for (const StoredTensor& tensor : header.tensors) names.push_back("'" + tensor.name + "'");
  user_error("{}: no tensor '{}'; its tensors are {}; name the one with the token ids with `field:`",
             source.path.string(), wanted, names.empty() ? "none" : join_words(names));
}

IdFormat tensor_format(const StoredTensor& tensor, const std::string& name) {
  switch (tensor.info.dtype) {
    case DType::I64:
      return {8, true};
    case DType::I32:
      return {4, true};
    case DType::I16:
      return {2, true};
    case DType::I8:
      return {1, true};
    case DType::U8:
      return {1, false};
    default:
      user_error("{}: expected token ids of an integer dtype, found {}", name, tensor.info.describe());
  }
}

std::span<const std::byte> bytes_of(const StoredTensor& tensor, const MappedFile& file) {
  return file.bytes().subspan(tensor.begin, tensor.end - tensor.begin);
}

/// The tensor "lengths", if there is one: how many ids of each row are not padding, from the first on.
std::vector<Attended> read_lengths(const SafetensorsHeader& header, const MappedFile& file,
                                   const IdArray& array, const std::string& path) {
  const StoredTensor* tensor = find_tensor(header, "lengths");
  if (tensor == nullptr) return {};
  if (array.shape.size() != 2 || tensor->info != TensorInfo{DType::I64, {array.shape[0]}}) {
    user_error("{}: lengths: expected one I64 for each row of ids, found {} beside ids of shape {}", path,
               tensor->info.describe(), describe_shape(array.shape));
  }
  std::vector<Attended> rows;
  for (const int64_t length : read_ids(bytes_of(*tensor, file), {8, true}, array.shape[0])) {
    if (length < 0 || length > array.shape[1]) {
      user_error("{}: lengths: row {}: expected 0 to {}, found {}", path, rows.size(), array.shape[1],
                 length);
    }
    rows.push_back({0, length});
  }
  return rows;
}

/// The same by the tensor "attention_mask", if there is one, of any integer dtype or BOOL.
std::vector<Attended> read_mask(const SafetensorsHeader& header, const MappedFile& file, const IdArray& array,
                                const std::string& path) {
  const StoredTensor* tensor = find_tensor(header, "attention_mask");
  if (tensor == nullptr) return {};
  const std::string name = path + ": attention_mask";
  if (tensor->info.shape != array.shape) {
    user_error("{}: expected the shape of the token ids, {}, found {}", name, describe_shape(array.shape),
               describe_shape(tensor->info.shape));
  }
  const IdFormat format =
      tensor->info.dtype == DType::BOOL ? IdFormat{1, false} : tensor_format(*tensor, name);
  const auto columns = static_cast<size_t>(array.shape.back());
  const std::span<const std::byte> bytes = bytes_of(*tensor, file);
  const size_t stride = columns * static_cast<size_t>(format.bytes);
  std::vector<Attended> rows;
  RowPages pages(file, bytes);
  for (size_t row = 0; row * stride < bytes.size(); ++row) {
    const auto mask = read_ids(bytes.subspan(row * stride, stride), format, array.shape.back());
    rows.push_back(attended(mask, columns, fmt::format("{}: row {}", name, row)));
    pages.read_to((row + 1) * stride);
  }
  return rows;
}

/// The tensor "token_weights", if there is one.
std::vector<float> read_weights(const SafetensorsHeader& header, const MappedFile& file, const IdArray& array,
                                const std::string& path) {
  const StoredTensor* tensor = find_tensor(header, kTokenWeights);
  if (tensor == nullptr) return {};
  if (tensor->info != TensorInfo{DType::F32, array.shape}) {
    user_error("{}: token_weights: expected F32 of the token ids' shape, {}, found {}", path,
               describe_shape(array.shape), tensor->info.describe());
  }
  const std::span<const std::byte> bytes = bytes_of(*tensor, file);
  std::vector<float> weights(bytes.size() / sizeof(float));
  std::memcpy(weights.data(), bytes.data(), bytes.size());
  file.release(bytes);
  check_token_weights(weights, path + ": token_weights");
  return weights;
}

/// Which ids of each row are not padding, as the file says it: either way, or not at all.
std::vector<Attended> read_rows(const SafetensorsHeader& header, const MappedFile& file, const IdArray& array,
                                const std::string& path) {
  std::vector<Attended> lengths = read_lengths(header, file, array, path);
  std::vector<Attended> masked = read_mask(header, file, array, path);
  if (lengths.empty() || masked.empty()) return lengths.empty() ? masked : lengths;
  for (size_t row = 0; row < masked.size(); ++row) {
    const int64_t length = lengths[row].length;
    if (masked[row].length == length && (length == 0 || masked[row].begin == 0)) continue;
    user_error(
        "{}: row {}: lengths says the first {} ids, attention_mask {} from element {} on; leave one of the "
        "two out",
        path, row, length, masked[row].length, masked[row].begin);
  }
  return lengths;
}

}  // namespace

bool has_row_lengths(const DataSource& source) {
  if (kind_of(source) != DataKind::safetensors) return false;
  const MappedFile file = MappedFile::open(source.path);
  return find_tensor(parse_safetensors_header(file.bytes(), source.path.string()), "lengths") != nullptr;
}

ReadingNeed need_of_npy(const DataSource& source) {
  const MappedFile file = MappedFile::open(source.path);
  const NpyHeader header = parse_npy_header(file.bytes(), source.path.string());
  ReadingNeed need = need_of_rows(header.shape, file.bytes().size() - header.data_begin);
  if (const auto weights = npy_weights_file(source))
    add_weights(need, 2 * MappedFile::open(*weights).bytes().size());  // mapped while they are copied
  return need;
}

ReadingNeed need_of_safetensors(const DataSource& source) {
  const MappedFile file = MappedFile::open(source.path);
  const SafetensorsHeader header = parse_safetensors_header(file.bytes(), source.path.string());
  const StoredTensor& tensor = choose_tensor(header, source);
  ReadingNeed need = need_of_rows(tensor.info.shape, tensor.end - tensor.begin);
  if (const StoredTensor* weights = find_tensor(header, kTokenWeights))
    add_weights(need, 2 * (weights->end - weights->begin));  // mapped while they are copied
  return need;
}

void read_npy(const DataSource& source, const DocumentVisit& visit) {
  const std::string path = source.path.string();
  const MappedFile file = MappedFile::open(source.path);
  const NpyHeader header = parse_npy_header(file.bytes(), path);
  if (!source.field.empty())
    user_error("{}: a .npy file has no fields, found `field: {}`", path, source.field);
  IdArray array{path, file.bytes().subspan(header.data_begin), npy_format(header, path), header.shape, {},
                {}};
  check_shape(array);
  check_c_order(header, path);
  check_npy_size(header, array.bytes.size(), array.format.bytes, path);
  if (const auto weights = npy_weights_file(source)) array.weights = read_npy_weights(*weights, array.shape);
  visit_rows(array, file, visit);
}

void read_safetensors(const DataSource& source, const DocumentVisit& visit) {
  const std::string path = source.path.string();
  const MappedFile file = MappedFile::open(source.path);
  const SafetensorsHeader header = parse_safetensors_header(file.bytes(), path);
  const StoredTensor& tensor = choose_tensor(header, source);
  const std::string name = fmt::format("{}: {}", path, tensor.name);
  IdArray array{name, bytes_of(tensor, file), tensor_format(tensor, name), tensor.info.shape, {}, {}};
  check_shape(array);
  array.rows = read_rows(header, file, array, path);
  array.weights = read_weights(header, file, array, path);
  visit_rows(array, file, visit);
}

}  // namespace lathe
