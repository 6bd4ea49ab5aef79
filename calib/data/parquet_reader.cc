// .parquet, through liblathe_parquet.so.
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

#include "calib/data/json_document.h"
#include "calib/data/parquet/lathe_parquet.h"
#include "calib/data/readers.h"
#include "calib/data/token_weights.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using nlohmann::ordered_json;

struct Library {
  decltype(&lathe_parquet_columns) columns = nullptr;
  decltype(&lathe_parquet_sizes) sizes = nullptr;
  decltype(&lathe_parquet_read) read = nullptr;
};

#ifndef LATHE_PARQUET_LIBRARY  // fuzzing has one of its own
#define LATHE_PARQUET_LIBRARY "liblathe_parquet.so"
#endif

Library open_library() {
  const auto path = std::filesystem::read_symlink("/proc/self/exe").parent_path() / LATHE_PARQUET_LIBRARY;
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    user_error("Parquet files can't be read: {}; convert the file to .jsonl, or install Lathe whole",
               reason != nullptr ? reason : path.string());
  }
  Library found;
  found.columns = reinterpret_cast<decltype(found.columns)>(dlsym(library, "lathe_parquet_columns"));
  found.sizes = reinterpret_cast<decltype(found.sizes)>(dlsym(library, "lathe_parquet_sizes"));
  found.read = reinterpret_cast<decltype(found.read)>(dlsym(library, "lathe_parquet_read"));
  if (found.columns == nullptr || found.sizes == nullptr || found.read == nullptr)
    user_error("{}: lacks a function; it is of another build of Lathe", path.string());
  return found;
}

const Library& library() {
  static const Library found = open_library();
  return found;
}

using Reason = std::array<char, 1024>;

[[noreturn]] void refuse(const DataSource& source, const Reason& reason) {
  std::string line;
  for (const char c : std::string_view(reason.data())) line += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  user_error("{}: not a readable Parquet file: {}", source.path.string(), line);
}

struct Column {
  std::string name, type;  // Arrow's words for the type: "string", "list<element: int32>"
};

std::vector<Column> columns_of(const DataSource& source) {
  std::vector<Column> columns;
  Reason reason{};
  const auto add = [](void* context, const char* name, const char* type) {
    static_cast<std::vector<Column>*>(context)->push_back({name, type});
  };
  if (library().columns(source.path.c_str(), add, &columns, reason.data(), reason.size()) != 0)
    refuse(source, reason);
  return columns;
}

/// The document's column first, then those beside it that a list of ids or messages may need.
std::vector<std::string> columns_to_read(const DataSource& source) {
  const std::vector<Column> columns = columns_of(source);
  std::vector<std::string> names;
  for (const Column& column : columns) names.push_back(column.name);
  const std::string chosen = choose_field(source, names, "the file", source.path.string());
  std::vector<std::string> result = {chosen};
  const auto found =
      std::find_if(columns.begin(), columns.end(), [&](const Column& c) { return c.name == chosen; });
  if (found->type.find("list<") == std::string::npos && !found->type.starts_with("fixed_size_list")) {
    if (std::ranges::find(names, kTokenWeights) != names.end())
      refuse_weights_of_text(fmt::format("{}: column '{}'", source.path.string(), chosen));
    return result;
  }
  for (const char* beside : {kTools, kAttentionMask, kTokenWeights}) {
    if (beside != chosen && std::find(names.begin(), names.end(), beside) != names.end())
      result.emplace_back(beside);
  }
  return result;
}

std::vector<const char*> c_strings(const std::vector<std::string>& texts) {
  std::vector<const char*> pointers;
  for (const std::string& text : texts) pointers.push_back(text.c_str());
  return pointers;
}

/// What the visitor needs; no exception of ours may pass through the module, so it is carried here.
struct Reading {
  const DataSource& source;
  const text::ChatTemplates* templates;
  const DocumentVisit& visit;
  std::vector<std::string> columns;
  std::exception_ptr failure;
  bool any = false;               // a document with a value
  std::string first_absent = {};  // the place of the first one without
  int64_t rows = 0;               // that were visited
  uint64_t bytes = 0;             // of cells, in these

  std::string_view bytes_of(const LatheParquetCell& cell, size_t column, const std::string& place) const {
    const std::string_view bytes(cell.data, cell.size);
    if (const auto offset = invalid_utf8_offset(bytes)) {
      user_error("{}: column '{}': invalid UTF-8 at byte offset {} (0x{:02x})", place, columns[column],
                 *offset, static_cast<unsigned char>(bytes[*offset]));
    }
    return bytes;
  }
  ordered_json value_of(const LatheParquetCell& cell, size_t column, const std::string& place) const {
    if (cell.kind == kLatheParquetNull) return nullptr;
    const std::string_view bytes = bytes_of(cell, column, place);
    if (cell.kind == kLatheParquetText) return ordered_json(bytes);
    check_nesting(bytes, place);
    return ordered_json::parse(bytes);
  }
  void row(int64_t row, const LatheParquetCell* cells) {
    const std::string place = fmt::format("{}: row {}", source.path.string(), row);
    if (cells[0].kind == kLatheParquetNull) {
      if (first_absent.empty()) first_absent = place;
      return visit({.form = Document::Form::absent, .text = {}, .ids = {}, .place = place});
    }
    any = true;
    if (cells[0].kind == kLatheParquetText) {
      return visit(
          {.form = Document::Form::text, .text = bytes_of(cells[0], 0, place), .ids = {}, .place = place});
    }
    CompanionFields beside;
    for (size_t i = 1; i < columns.size(); ++i) {
      ordered_json& field = columns[i] == kTools           ? beside.tools
                            : columns[i] == kAttentionMask ? beside.attention_mask
                                                           : beside.token_weights;
      field = value_of(cells[i], i, place);
    }
    visit_value(value_of(cells[0], 0, place), columns[0], beside, templates, place, visit);
  }
};

int visit_row(void* context, int64_t row, const LatheParquetCell* cells) {
  auto& reading = *static_cast<Reading*>(context);
  try {
    reading.row(row, cells);
    ++reading.rows;
    for (size_t i = 0; i < reading.columns.size(); ++i) reading.bytes += cells[i].size;
    const uint64_t head = reading.source.head;
    return head > 0 && reading.bytes >= head ? 1 : 0;  // no error: enough was read
  } catch (...) {
    reading.failure = std::current_exception();
    return 1;
  }
}

LatheParquetSizes sizes_of(const DataSource& source, const std::vector<std::string>& columns) {
  const std::vector<const char*> names = c_strings(columns);
  LatheParquetSizes sizes{};
  Reason reason{};
  if (library().sizes(source.path.c_str(), names.data(), names.size(), &sizes, reason.data(),
                      reason.size()) != 0)
    refuse(source, reason);
  return sizes;
}

void check_not_empty(const DataSource& source) {
  if (MappedFile::open(source.path).bytes().empty())
    user_error("{}: the file is empty; expected a Parquet file", source.path.string());
}

}  // namespace

/// A batch, the page that it comes from, and a document as a cell, as a value and as text. One row may hold
/// all of its group; an id is 8 bytes in Arrow, 16 of a list that grows as JSON, and its digits.
ReadingNeed need_of_parquet(const DataSource& source, const Tokenizer& tokenizer) {
  check_not_empty(source);
  LatheParquetSizes sizes = sizes_of(source, columns_to_read(source));
  // Whatever a damaged footer says: far more than a machine has, and sums of it fit.
  constexpr uint64_t kMost = uint64_t{1} << 50;
  for (uint64_t* size : {&sizes.bytes, &sizes.group_bytes, &sizes.group_values, &sizes.batch_bytes})
    *size = std::min(*size, kMost);
  return {sizes.batch_bytes,
          6 * sizes.group_bytes + 80 * sizes.group_values + encoding_need(tokenizer, sizes.group_bytes),
          sizes.bytes, fmt::format("row groups of {}", human_bytes(sizes.group_bytes)),
          "write it with smaller row groups"};
}

double read_parquet(const DataSource& source, const text::ChatTemplates* templates,
                    const DocumentVisit& visit) {
  check_not_empty(source);
  Reading reading{source, templates, visit, columns_to_read(source), nullptr};
  const std::vector<const char*> names = c_strings(reading.columns);
  Reason reason{};
  const int code = library().read(source.path.c_str(), names.data(), names.size(), visit_row, &reading,
                                  reason.data(), reason.size());
  if (reading.failure) std::rethrow_exception(reading.failure);
  if (code != 0) refuse(source, reason);
  const uint64_t rows = source.head > 0 ? sizes_of(source, reading.columns).rows : 0;
  const bool whole = std::cmp_greater_equal(reading.rows, rows);
  if (!reading.any && !reading.first_absent.empty() && whole)  // an error, that of the first
    visit_value(nullptr, reading.columns[0], {}, templates, reading.first_absent, visit);
  return whole ? 1 : static_cast<double>(reading.rows) / static_cast<double>(rows);
}

}  // namespace lathe
