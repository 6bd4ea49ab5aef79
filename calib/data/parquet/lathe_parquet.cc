#include "calib/data/parquet/lathe_parquet.h"

#include <arrow/io/file.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <parquet/arrow/reader.h>
#include <parquet/file_reader.h>
#include <parquet/schema.h>

#include <cstring>
#include <stdexcept>
#include <string>

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

/// One thread, small batches: the order of rows is the file's, and memory is a few batches. The file is read,
/// not mapped, so that one that shrinks while it is read is an error and no signal.
std::unique_ptr<parquet::arrow::FileReader> open(const char* path) {
  parquet::arrow::FileReaderBuilder builder;
  check(builder.OpenFile(path));
  parquet::ArrowReaderProperties properties(/*use_threads=*/false);
  properties.set_batch_size(kRowsAtOnce);
  properties.set_pre_buffer(false);
  builder.properties(properties);
  std::unique_ptr<parquet::arrow::FileReader> reader;
  check(builder.Build(&reader));
  return reader;
}

/// Parquet's leaf columns of one top-level column.
std::vector<int> leaves_of(const parquet::arrow::FileReader& reader, const std::string& name) {
  const parquet::SchemaDescriptor& schema = *reader.parquet_reader()->metadata()->schema();
  std::vector<int> leaves;
  for (int i = 0; i < schema.num_columns(); ++i) {
    if (schema.GetColumnRoot(i)->name() == name) leaves.push_back(i);
  }
  if (leaves.empty()) throw std::runtime_error("no column '" + name + "'");
  return leaves;
}

void visit_cell(const arrow::Array& array, int64_t index, int64_t row, LatheParquetVisit visit, void* context,
                bool& stop) {
  LatheParquetCell cell{kLatheParquetNull, "", 0};
  std::string text;
  if (!array.IsNull(index)) {
    const nlohmann::ordered_json value = json_of(array, index);
    cell.kind = value.is_string() ? kLatheParquetText : kLatheParquetJson;
    if (value.is_string()) {
      text = value.get_ref<const std::string&>();
    } else {
      try {
        text = value.dump();
      } catch (const nlohmann::json::exception&) {  // nlohmann writes well-formed UTF-8 only
        throw std::runtime_error("row " + std::to_string(row) + ": invalid UTF-8");
      }
    }
    cell.data = text.data();
    cell.size = text.size();
  }
  stop = visit(context, row, &cell) != 0;
}

void read(const char* path, const char* name, LatheParquetVisit visit, void* context) {
  const auto reader = open(path);
  std::vector<int> groups(static_cast<size_t>(reader->num_row_groups()));
  for (size_t i = 0; i < groups.size(); ++i) groups[i] = static_cast<int>(i);
  const auto batches = take(reader->GetRecordBatchReader(groups, leaves_of(*reader, name)));
  int64_t row = 0;
  bool stop = false;
  while (!stop) {
    std::shared_ptr<arrow::RecordBatch> batch;
    check(batches->ReadNext(&batch));
    if (batch == nullptr) return;
    check(batch->Validate());
    const arrow::Array& array = *batch->column(0);
    for (int64_t i = 0; i < array.length() && !stop; ++i) visit_cell(array, i, row++, visit, context, stop);
  }
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

int lathe_parquet_read(const char* path, const char* name, LatheParquetVisit visit, void* context,
                       char* error, size_t error_size) {
  return lathe::parquet_module::guarded(error, error_size,
                                        [&] { lathe::parquet_module::read(path, name, visit, context); });
}
