// A GGUF file opened for reading: keys, and tensors as views of the mapped bytes. Every count, length and
// offset is checked against the file before it is used; no tensor's byte is touched.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "formats/gguf/gguf_value.h"
#include "lib/base/file.h"
#include "lib/numeric/ggml_type.h"

namespace lathe {

/// Row-major, as everywhere in Lathe: shape.back() is contiguous (the first of the file's sizes).
struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::F32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
  size_t part = 0;  // of the file, where the model is split

  int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
  int64_t numel() const;
};

class GgufFile {
 public:
  /// UserError naming file, key or tensor for anything malformed: a wrong magic or version, a count or length
  /// beyond the file, an unknown value or tensor type, a key or tensor that stands twice, sizes that overflow
  /// or don't divide into blocks, an offset that is not where the previous tensor's bytes end.
  ///
  /// The first part of a split model stands for all of them (gguf_split.h): its keys, every part's tensors.
  /// UserError for another part, one that is missing or of another split, and a name that stands in two.
  static GgufFile open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const GgufMetadata& metadata() const { return metadata_; }
  /// Null where there is no such key.
  const GgufValue* find(const std::string& key) const;
  /// In the order of the file.
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  /// Null where there is no such tensor.
  const GgufTensor* tensor(const std::string& name) const;
  void release(const GgufTensor& tensor) const { release(tensor, tensor.bytes); }
  /// Of a part of a tensor's bytes.
  void release(const GgufTensor& tensor, std::span<const std::byte> part) const;
  /// The first, or only, part and those after it.
  const std::vector<std::filesystem::path>& parts() const { return parts_; }

 private:
  static GgufFile open_part(const std::filesystem::path& path);
  void append(GgufFile part);

  std::filesystem::path path_;
  std::vector<std::filesystem::path> parts_;
  std::vector<MappedFile> files_;
  GgufMetadata metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t> keys_, names_;
};

/// Does the file start with "GGUF"? False for one that can't be read.
bool is_gguf(const std::filesystem::path& path);

}  // namespace lathe
