// The header of a safetensors file: u64 little-endian length, a JSON object, then the tensors' bytes without
// holes. Spec: https://github.com/huggingface/safetensors#format
//
//   {"__metadata__": {"format": "pt"}, "name": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
//   ...}
//
// Offsets count from the end of the header; the header is padded with spaces so that the data starts at a
// multiple of 8.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "lib/tensor/tensor_view.h"

namespace lathe {

/// The longest header that is read, as in the reference implementation.
inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

/// A tensor that will be written.
struct PlannedTensor {
  std::string name;
  TensorInfo info;
  /// How many entries it has is known when it is written: its first dimension is the most it may be.
  bool open = false;
};

/// A tensor that stands at bytes [begin, end) of a file; counted from the file's start.
struct StoredTensor {
  std::string name;
  TensorInfo info;
  uint64_t begin = 0, end = 0;
};

struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;  // by offset; together they fill the rest of the file exactly
  std::map<std::string, std::string> metadata;
};

/// Reads and validates the header of a whole file; no tensor byte is touched, and nothing is allocated on the
/// word of the file. `path` is for messages. UserError naming file and tensor for anything malformed.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, const std::string& path);

/// Everything that precedes the data: length, JSON with the metadata, padding. Tensors lie in the order
/// given. `room`: bytes that it fills at least.
std::string format_safetensors_header(std::span<const PlannedTensor> tensors, uint64_t room = 0,
                                      const std::map<std::string, std::string>& metadata = {
                                          {"format", "pt"}});

}  // namespace lathe
