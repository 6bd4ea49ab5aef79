#include "calib/data/documents.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using Visit = std::function<void(std::string_view, const std::string&)>;

enum class TextKind { plain, json_lines };

TextKind text_kind(const DataSource& source) {
  std::string extension = source.path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (extension == ".txt") return TextKind::plain;
  if (extension == ".jsonl") return TextKind::json_lines;
  user_error(
      "{}: unknown kind of text file '{}'; supported: .txt (one document) and .jsonl (one object a line)",
      source.path.string(), extension);
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos;
}

void check_utf8(std::string_view text, const DataSource& source) {
  const auto offset = invalid_utf8_offset(text);
  if (!offset) return;
  const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(*offset), '\n');
  user_error("{}:{}: invalid UTF-8 at byte offset {} (0x{:02x}); convert the file to UTF-8",
             source.path.string(), line, *offset, static_cast<unsigned char>(text[*offset]));
}

/// The field's text of one line. nlohmann's own message is dropped for its position: it speaks of "line 1"
/// always.
std::string field_of_line(std::string_view line, const std::string& field, const std::string& place) {
  nlohmann::json object;
  try {
    object = nlohmann::json::parse(line);
  } catch (const nlohmann::json::parse_error& error) {
    user_error("{}:{}: not valid JSON; expected one object a line", place, std::max<size_t>(error.byte, 1));
  } catch (const nlohmann::json::exception& error) {  // a number out of range
    user_error("{}: not valid JSON: {}", place, error.what());
  }
  if (!object.is_object()) user_error("{}: expected a JSON object, found {}", place, object.type_name());
  const auto found = object.find(field);
  if (found == object.end()) {
    std::vector<std::string> names;
    for (const auto& item : object.items()) names.push_back("'" + item.key() + "'");
    user_error("{}: the object has no field '{}'; its fields are {}", place, field,
               names.empty() ? "none" : join_words(names));
  }
  if (!found->is_string())
    user_error("{}: field '{}': expected a string, found {}", place, field, found->type_name());
  return found->get<std::string>();
}

void for_each_line(std::string_view text, const DataSource& source, const Visit& visit) {
  int64_t number = 0;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    const std::string_view line = text.substr(start, end - start);
    start = end + 1;
    ++number;
    if (is_blank(line)) continue;
    const std::string place = fmt::format("{}:{}", source.path.string(), number);
    visit(field_of_line(line, source.field, place), place);
  }
}

}  // namespace

void check_text_kind(const DataSource& source) { text_kind(source); }

void for_each_document(const DataSource& source, const Visit& visit) {
  const TextKind kind = text_kind(source);
  const MappedFile file = MappedFile::open(source.path);
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  if (is_blank(text)) user_error("{}: the file is empty; expected text", source.path.string());
  check_utf8(text, source);
  if (kind == TextKind::plain) {
    visit(text, source.path.string());
  } else {
    for_each_line(text, source, visit);
  }
}

}  // namespace lathe
