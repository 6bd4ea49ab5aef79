#include "calib/data/data_source.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "lib/base/error.h"

namespace lathe {
namespace {

struct KindRow {
  DataKind kind;
  std::string_view extension, name;
};
constexpr std::array<KindRow, 5> kKinds = {{{DataKind::text, ".txt", "text"},
                                            {DataKind::json_lines, ".jsonl", "jsonl"},
                                            {DataKind::parquet, ".parquet", "parquet"},
                                            {DataKind::npy, ".npy", "npy"},
                                            {DataKind::safetensors, ".safetensors", "safetensors"}}};

}  // namespace

DataKind kind_of(const DataSource& source) {
  std::string extension = source.path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const KindRow& row : kKinds) {
    if (row.extension == extension) return row.kind;
  }
  user_error(
      "{}: unknown kind of data file '{}'; supported: .txt (one document), .jsonl (one object a line), "
      ".parquet, and token ids in .npy or .safetensors",
      source.path.string(), extension);
}

std::string_view name_of(DataKind kind) {
  const auto row =
      std::find_if(kKinds.begin(), kKinds.end(), [&](const KindRow& r) { return r.kind == kind; });
  LATHE_ASSERT(row != kKinds.end(), "a kind of data without a row");
  return row->name;
}

}  // namespace lathe
