// A file of calibration data, as a recipe names it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace lathe {

struct DataSource {
  std::filesystem::path path;  // .txt, .jsonl, .parquet, .npy or .safetensors
  /// The key of a JSONL object, the column of a Parquet file, the tensor of a safetensors file. Empty: the
  /// first of text, messages and input_ids that the object or the file has (safetensors: input_ids, else the
  /// only tensor).
  std::string field = {};
  /// This source's part of a mix, against the other sources'; 0: not given.
  double weight = 0;
  /// Samples to take from this source; 0: not given.
  int64_t samples = 0;
  /// How often each of its tokens counts in Hessians and mean squares; those of a file with weights of its
  /// own times this.
  double token_weight = 1;
  /// Text, JSON lines and Parquet: about as many bytes are read, from the start on, and no more where the
  /// file goes on (a plan looks at the head of a large one); 0: all.
  uint64_t head = 0;
};

/// Bytes of a head that most likely hold so many tokens: a MiB at least; most texts have 3 to 5 bytes a
/// token, by their tokenizer.
constexpr uint64_t head_of(uint64_t tokens) {
  constexpr uint64_t kLeast = uint64_t{1} << 20, kBytesPerToken = 6;
  return kBytesPerToken * tokens > kLeast ? kBytesPerToken * tokens : kLeast;
}

enum class DataKind { text, json_lines, parquet, npy, safetensors };

/// One row for `quantize list`.
struct DataKindRow {
  DataKind kind;
  std::string_view extension, name, summary;  // name: as the manifest says it
};
std::span<const DataKindRow> data_kinds();

/// By the file's extension. UserError, listing the supported ones, for any other; does not open the file.
DataKind kind_of(const DataSource& source);

/// "text", "jsonl", "parquet", "npy", "safetensors": as the manifest says it.
std::string_view name_of(DataKind kind);

}  // namespace lathe
