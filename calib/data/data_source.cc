#include "calib/data/data_source.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr std::array<DataKindRow, 5> kKinds = {
    {{DataKind::text, ".txt", "text", "one document"},
     {DataKind::json_lines, ".jsonl", "jsonl",
      "a document a line: text, messages (chat template) or token ids (with `token_weights`)"},
     {DataKind::parquet, ".parquet", "parquet", "a document a row of a column: the same"},
     {DataKind::npy, ".npy", "npy", "token ids: a document, or one a row"},
     {DataKind::safetensors, ".safetensors", "safetensors",
      "token ids, with `lengths` where rows are padded"}}};

}  // namespace

std::span<const DataKindRow> data_kinds() { return kKinds; }

DataKind kind_of(const DataSource& source) {
  std::string extension = source.path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const DataKindRow& row : kKinds) {
    if (row.extension == extension) return row.kind;
  }
  user_error(
      "{}: unknown kind of data file '{}'; supported: .txt (one document), .jsonl (one object a line), "
      ".parquet, and token ids in .npy or .safetensors",
      source.path.string(), extension);
}

std::string_view name_of(DataKind kind) {
  const auto row =
      std::find_if(kKinds.begin(), kKinds.end(), [&](const DataKindRow& r) { return r.kind == kind; });
  LATHE_ASSERT(row != kKinds.end(), "a kind of data without a row");
  return row->name;
}

}  // namespace lathe
