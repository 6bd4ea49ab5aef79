#include "calib/data/parquet/lathe_parquet.h"

#include <arrow/io/file.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <parquet/arrow/reader.h>
#include <parquet/file_reader.h>
#include <parquet/schema.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "calib/data/parquet/arrow_json.h"

namespace lathe::parquet_module {
namespace {

constexpr int64_t kRowsAtOnce = 256;

void check(const arrow::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}
template <class T>
T take(arrow::Result<T> result) {
  check(result.status());
  return std::move(result).ValueUnsafe();
}

/// One thread, small batches, columns by pages: the order of rows is the file's, and memory is a few batches.
/// The file is read, not mapped, so that one that shrinks while it is read is an error and no signal.
std::unique_ptr<parquet::arrow::FileReader> open(const char* path) {
  parquet::arrow::FileReaderBuilder builder;
  parquet::ReaderProperties pages;
  pages.enable_buffered_stream();
  check(builder.OpenFile(path, /*memory_map=*/false, pages));
  parquet::ArrowReaderProperties properties(/*use_threads=*/false);
  properties.set_batch_size(kRowsAtOnce);
  properties.set_pre_buffer(false);
  builder.properties(properties);
  std::unique_ptr<parquet::arrow::FileReader> reader;
  check(builder.Build(&reader));
  return reader;
}

using Names = std::vector<std::string>;

/// Parquet's leaf columns of top-level columns.
std::vector<int> leaves_of(const parquet::arrow::FileReader& reader, const Names& names) {
  const parquet::SchemaDescriptor& schema = *reader.parquet_reader()->metadata()->schema();
  std::vector<int> leaves;
  for (int i = 0; i < schema.num_columns(); ++i) {
    if (std::find(names.begin(), names.end(), schema.GetColumnRoot(i)->name()) != names.end())
      leaves.push_back(i);
  }
  return leaves;
}

/// A cell and the text that it points into.
struct Cell {
  LatheParquetKind kind = kLatheParquetNull;
  std::string text;
};

Cell cell_of(const arrow::Array& array, int64_t index, int64_t row) {
  if (array.IsNull(index)) return {};
  const nlohmann::ordered_json value = json_of(array, index);
  if (value.is_string()) return {kLatheParquetText, value.get<std::string>()};
  try {
    return {kLatheParquetJson, value.dump()};
  } catch (const nlohmann::json::exception&) {  // nlohmann writes well-formed UTF-8 only
    throw std::runtime_error("row " + std::to_string(row) + ": invalid UTF-8");
  }
}

std::vector<std::shared_ptr<arrow::Array>> columns_of(const arrow::RecordBatch& batch, const Names& names) {
  std::vector<std::shared_ptr<arrow::Array>> columns;
  for (const std::string& name : names) {
    columns.push_back(batch.GetColumnByName(name));
    if (columns.back() == nullptr) throw std::runtime_error("not exactly one column '" + name + "'");
  }
  return columns;
}

/// False where `visit` asks to stop.
bool visit_row(const std::vector<std::shared_ptr<arrow::Array>>& columns, int64_t index, int64_t row,
               LatheParquetVisit visit, void* context) {
  std::vector<Cell> values;
  for (const auto& column : columns) values.push_back(cell_of(*column, index, row));
  std::vector<LatheParquetCell> cells;
  for (const Cell& value : values) cells.push_back({value.kind, value.text.data(), value.text.size()});
  return visit(context, row, cells.data()) == 0;
}

void read(const char* path, const Names& names, LatheParquetVisit visit, void* context) {
  const auto reader = open(path);
  std::vector<int> groups(static_cast<size_t>(reader->num_row_groups()));
  for (size_t i = 0; i < groups.size(); ++i) groups[i] = static_cast<int>(i);
  const auto batches = take(reader->GetRecordBatchReader(groups, leaves_of(*reader, names)));
  int64_t row = 0;
  while (true) {
    std::shared_ptr<arrow::RecordBatch> batch;
    check(batches->ReadNext(&batch));
    if (batch == nullptr) return;
    check(batch->Validate());
    const auto columns = columns_of(*batch, names);
    for (int64_t i = 0; i < batch->num_rows(); ++i) {
      if (!visit_row(columns, i, row++, visit, context)) return;
    }
  }
}

LatheParquetSizes sizes_of(const char* path, const Names& names) {
  const auto reader = open(path);
  const auto file = reader->parquet_reader()->metadata();
  const std::vector<int> leaves = leaves_of(*reader, names);
  LatheParquetSizes largest{};
  for (int g = 0; g < file->num_row_groups(); ++g) {
    const auto group = file->RowGroup(g);
    uint64_t bytes = 0, values = 0;
    for (const int leaf : leaves) {
      const auto column = group->ColumnChunk(leaf);
      bytes += static_cast<uint64_t>(std::max<int64_t>(column->total_uncompressed_size(), 0));
      values += static_cast<uint64_t>(std::max<int64_t>(column->num_values(), 0));
    }
    const int64_t rows = std::max<int64_t>(group->num_rows(), 1);
    const double share = static_cast<double>(std::min(rows, kRowsAtOnce)) / static_cast<double>(rows);
    largest.rows += static_cast<uint64_t>(std::max<int64_t>(group->num_rows(), 0));
    largest.bytes += bytes;
    largest.group_bytes = std::max(largest.group_bytes, bytes);
    largest.group_values = std::max(largest.group_values, values);
    largest.batch_bytes =
        std::max(largest.batch_bytes, static_cast<uint64_t>(static_cast<double>(bytes) * share));
  }
  return largest;
}

void list_columns(const char* path, LatheParquetColumn column, void* context) {
  std::shared_ptr<arrow::Schema> schema;
  check(open(path)->GetSchema(&schema));
  for (const auto& field : schema->fields())
    column(context, field->name().c_str(), field->type()->ToString().c_str());
}

/// Runs `work`; what it throws becomes text. Arrow's Status and Parquet's exceptions both end here.
template <class Work>
int guarded(char* error, size_t error_size, Work&& work) {
  std::string reason;
  try {
    work();
    return 0;
  } catch (const std::exception& e) {
    reason = e.what();
  } catch (...) {
    reason = "an unknown failure";
  }
  if (error_size > 0) {
    const size_t size = std::min(reason.size(), error_size - 1);
    std::memcpy(error, reason.data(), size);
    error[size] = '\0';
  }
  return 1;
}

}  // namespace
}  // namespace lathe::parquet_module

int lathe_parquet_columns(const char* path, LatheParquetColumn column, void* context, char* error,
                          size_t error_size) {
  return lathe::parquet_module::guarded(error, error_size,
                                        [&] { lathe::parquet_module::list_columns(path, column, context); });
}

int lathe_parquet_sizes(const char* path, const char* const* names, size_t count, LatheParquetSizes* sizes,
                        char* error, size_t error_size) {
  return lathe::parquet_module::guarded(error, error_size, [&] {
    *sizes = lathe::parquet_module::sizes_of(path, {names, names + count});
  });
}

int lathe_parquet_read(const char* path, const char* const* names, size_t count, LatheParquetVisit visit,
                       void* context, char* error, size_t error_size) {
  return lathe::parquet_module::guarded(error, error_size, [&] {
    lathe::parquet_module::read(path, {names, names + count}, visit, context);
  });
}
