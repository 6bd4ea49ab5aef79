// Writes a GGUF file: keys and places first, then each tensor as it comes, in any order.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "formats/gguf/gguf_value.h"
#include "lib/numeric/ggml_type.h"

namespace lathe {

/// A tensor before its bytes are known; shape row-major.
struct GgufPlan {
  std::string name;
  GgmlType type = GgmlType::F32;
  std::vector<int64_t> shape;

  uint64_t bytes() const;
};

/// One thread at a time.
class GgufWriter {
 public:
  /// Creates the file with its header, the whole length reserved. UserError naming the file on a full or
  /// read-only disk, or a tensor's name of 64 bytes or more, which llama.cpp can't read. InternalError for a
  /// key or name that stands twice.
  GgufWriter(std::filesystem::path path, const GgufMetadata& metadata, const std::vector<GgufPlan>& tensors);
  GgufWriter(const GgufWriter&) = delete;
  GgufWriter& operator=(const GgufWriter&) = delete;
  ~GgufWriter();

  /// A part of a tensor's bytes, from `begin` on. InternalError for a name that was not planned or bytes
  /// beyond its end; UserError naming the file where the disk fails.
  void write(const std::string& name, std::span<const std::byte> bytes, uint64_t begin = 0);
  /// Syncs. InternalError where a tensor has not been written in full.
  void finish();
  /// Of the whole file.
  uint64_t bytes() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  struct Place {
    uint64_t offset = 0, bytes = 0, written = 0;
  };

  std::filesystem::path path_;
  int fd_ = -1;
  uint64_t size_ = 0;
  std::map<std::string, Place> places_;
};

/// The bytes of header and padding, up to the first tensor's. For tests and the writer.
std::string format_gguf_header(const GgufMetadata& metadata, const std::vector<GgufPlan>& tensors);

}  // namespace lathe
