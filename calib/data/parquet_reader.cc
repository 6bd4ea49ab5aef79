// .parquet, through liblathe_parquet.so.
#include <dlfcn.h>

#include <array>
#include <exception>

#include "calib/data/json_document.h"
#include "calib/data/parquet/lathe_parquet.h"
#include "calib/data/readers.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using nlohmann::ordered_json;

struct Library {
  decltype(&lathe_parquet_columns) columns = nullptr;
  decltype(&lathe_parquet_read) read = nullptr;
};

Library open_library() {
  const auto path = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "liblathe_parquet.so";
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    user_error("Parquet files can't be read: {}; convert the file to .jsonl, or install Lathe whole",
               reason != nullptr ? reason : path.string());
  }
  Library found;
  found.columns = reinterpret_cast<decltype(found.columns)>(dlsym(library, "lathe_parquet_columns"));
  found.read = reinterpret_cast<decltype(found.read)>(dlsym(library, "lathe_parquet_read"));
  if (found.columns == nullptr || found.read == nullptr)
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

std::vector<std::string> columns_of(const DataSource& source) {
  std::vector<std::string> names;
  Reason reason{};
  const auto add = [](void* context, const char* name, const char*) {
    static_cast<std::vector<std::string>*>(context)->emplace_back(name);
  };
  if (library().columns(source.path.c_str(), add, &names, reason.data(), reason.size()) != 0)
    refuse(source, reason);
  return names;
}

/// What the visitor needs; no exception of ours may pass through the module, so it is carried here.
struct Reading {
  const DataSource& source;
  const text::ChatTemplates* templates;
  const DocumentVisit& visit;
  std::string column;
  std::exception_ptr failure;

  void cell(int64_t row, const LatheParquetCell& cell) const {
    const std::string place = fmt::format("{}: row {}", source.path.string(), row);
    const std::string_view bytes(cell.data, cell.size);
    if (const auto offset = invalid_utf8_offset(bytes)) {
      user_error("{}: column '{}': invalid UTF-8 at byte offset {} (0x{:02x})", place, column, *offset,
                 static_cast<unsigned char>(bytes[*offset]));
    }
    if (cell.kind == kLatheParquetText)
      return visit({.form = Document::Form::text, .text = bytes, .ids = {}, .place = place});
    const ordered_json value = cell.kind == kLatheParquetNull ? ordered_json() : ordered_json::parse(bytes);
    visit_value(value, column, nullptr, templates, place, visit);
  }
};

int visit_cell(void* context, int64_t row, const LatheParquetCell* cell) {
  auto& reading = *static_cast<Reading*>(context);
  try {
    reading.cell(row, *cell);
    return 0;
  } catch (...) {
    reading.failure = std::current_exception();
    return 1;
  }
}

}  // namespace

void read_parquet(const DataSource& source, const text::ChatTemplates* templates,
                  const DocumentVisit& visit) {
  if (MappedFile::open(source.path).bytes().empty())
    user_error("{}: the file is empty; expected a Parquet file", source.path.string());
  const std::string column = choose_field(source, columns_of(source), "the file", source.path.string());
  Reading reading{source, templates, visit, column, nullptr};
  Reason reason{};
  const int code =
      library().read(source.path.c_str(), column.c_str(), visit_cell, &reading, reason.data(), reason.size());
  if (reading.failure) std::rethrow_exception(reading.failure);
  if (code != 0) refuse(source, reason);
}

}  // namespace lathe
