// .txt and .jsonl: memory-mapped, UTF-8 throughout.
#include <algorithm>

#include "calib/data/json_document.h"
#include "calib/data/readers.h"
#include "calib/data/token_weights.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/process_memory.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using nlohmann::ordered_json;

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos;
}

void check_utf8(const MappedFile& file, std::string_view text, const DataSource& source) {
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    end = std::min(begin + kReadPiece, text.size());
    for (int i = 0; i < 3 && end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80; ++i)
      --end;  // a whole character
    if (const auto in_piece = invalid_utf8_offset(text.substr(begin, end - begin))) {
      const size_t offset = begin + *in_piece;
      const auto line =
          1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(offset), '\n');
      user_error("{}:{}: invalid UTF-8 at byte offset {} (0x{:02x}); convert the file to UTF-8",
                 source.path.string(), line, offset, static_cast<unsigned char>(text[offset]));
    }
    file.release(file.bytes().subspan(begin, end - begin));
  }
}

/// Whole lines of the first `head` bytes, or the first line as a whole; text without line ends is cut between
/// two characters.
std::string_view head_of(std::string_view text, const DataSource& source) {
  if (source.head == 0 || text.size() <= source.head) return text;
  const size_t last = text.rfind('\n', source.head - 1);
  if (last != std::string_view::npos) return text.substr(0, last + 1);
  if (kind_of(source) == DataKind::json_lines) return text.substr(0, text.find('\n', source.head));
  size_t end = source.head;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

/// What is read of a file.
struct FileText {
  std::string_view text;
  double share = 1;  // of the file
  bool whole() const { return share == 1; }
};

/// Without a byte order mark at its start, which RFC 8259 (section 8.1) lets readers of JSON skip and no
/// tokenizer should see.
FileText text_of(const MappedFile& file, const DataSource& source) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  const std::string_view all(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  std::string_view text = head_of(all, source);
  const bool whole = text.size() == all.size();
  const double share = whole ? 1 : static_cast<double>(text.size()) / static_cast<double>(all.size());
  check_utf8(file, text, source);
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  if (whole && is_blank(text)) user_error("{}: the file is empty; expected text", source.path.string());
  return {text, share};
}

/// nlohmann's own message is dropped for its position: it speaks of "line 1" always.
ordered_json parse_line(std::string_view line, const std::string& place) {
  check_nesting(line, place);
  try {
    return ordered_json::parse(line);
  } catch (const nlohmann::json::parse_error& error) {
    user_error("{}:{}: not valid JSON; expected one object a line", place, std::max<size_t>(error.byte, 1));
  } catch (const nlohmann::json::exception& error) {  // a number out of range
    user_error("{}: not valid JSON: {}", place, error.what());
  }
}

std::vector<std::string> names_of(const ordered_json& object) {
  std::vector<std::string> names;
  for (const auto& item : object.items()) names.push_back(item.key());
  return names;
}

bool is_absent(const ordered_json& value, const DataSource& source) {
  if (!value.is_object()) return false;
  const auto field = find_field(source, names_of(value));
  return !field || value[*field].is_null();
}

void visit_line(const ordered_json& value, const DataSource& source, const text::ChatTemplates* templates,
                const std::string& place, const DocumentVisit& visit) {
  if (value.is_array() && source.field.empty()) return visit_value(value, "", {}, templates, place, visit);
  if (!value.is_object()) user_error("{}: expected a JSON object, found {}", place, value.type_name());
  const std::string field = choose_field(source, names_of(value), "the object", place);
  const CompanionFields beside{value.value(kTools, ordered_json()),
                               value.value(kAttentionMask, ordered_json()),
                               value.value(kTokenWeights, ordered_json())};
  visit_value(value[field], field, beside, templates, place, visit);
}

/// What a buffer takes that grows to `size` by doubling.
uint64_t grown(uint64_t size, uint64_t first) {
  while (first < size) first *= 2;
  return first;
}

/// What growing to `size` leaves in heaps: the sizes before, below that from which a block is a mapping.
uint64_t left_of(uint64_t size) { return std::min<uint64_t>(size / 2, kMappedBytes); }

/// The line of a file that takes most once it is parsed: its bytes, those inside of strings, and its values.
struct LongestLine {
  uint64_t bytes = 0, text = 0, values = 0;
  int64_t number = 1;

  /// nlohmann's lexer holds a string twice, raw and decoded, in buffers that double; the value is a third
  /// copy. A number is 16 bytes of a list that doubles, while it moves in both, and then 8 as an id, of which
  /// there is one list, or two with a mask, or half of one with weights.
  uint64_t most() const {
    const uint64_t raw = grown(text, 16), decoded = grown(text, 15), list = 16 * grown(values, 1);
    const uint64_t moving = std::max(raw, decoded) / 2;
    return raw + decoded + std::max(moving, text) + list + std::max(list / 2, 16 * values) + left_of(raw) +
           left_of(decoded) + left_of(list);
  }
  uint64_t least() const { return 3 * text + 24 * values; }
};

LongestLine longest_line(const MappedFile& file) {
  const std::span<const std::byte> bytes = file.bytes();
  LongestLine longest, line;
  bool in_string = false, escaped = false;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i % kReadPiece == 0 && i > 0) file.release(bytes.subspan(i - kReadPiece, kReadPiece));
    const char c = static_cast<char>(bytes[i]);
    ++line.bytes;
    if (c == '\n' || i + 1 == bytes.size()) {
      if (line.most() > longest.most()) longest = line;
      line = {.number = line.number + 1};
      in_string = escaped = false;
    } else if (in_string) {
      ++line.text;
      if (c == '"' && !escaped) in_string = false;
      escaped = c == '\\' && !escaped;
    } else if (c == '"') {
      in_string = true;
    } else if (c == ',') {
      ++line.values;
    }
  }
  return longest;
}

}  // namespace

ReadingNeed need_of_text(const DataSource& source, const Tokenizer& tokenizer) {
  const uint64_t size = MappedFile::open(source.path).bytes().size();
  return {size, size + encoding_need(tokenizer, size), size,
          fmt::format("its {} of text, one document, which is mapped as a whole,", human_bytes(size)),
          "split it into lines of a .jsonl"};
}

ReadingNeed need_of_json_lines(const DataSource& source, const Tokenizer& tokenizer) {
  const MappedFile file = MappedFile::open(source.path);
  const LongestLine line = longest_line(file);
  const uint64_t mapped = std::max(mapped_while_read(file.bytes().size()), line.bytes);
  return {
      mapped + line.least(), mapped + std::max(line.most(), line.text + encoding_need(tokenizer, line.text)),
      file.bytes().size(), fmt::format("line {} of {}, the longest,", line.number, human_bytes(line.bytes)),
      "split that document"};
}

double read_text(const DataSource& source, const DocumentVisit& visit) {
  const MappedFile file = MappedFile::open(source.path);
  const std::string place = source.path.string();
  const FileText found = text_of(file, source);
  visit({.form = Document::Form::text, .text = found.text, .ids = {}, .place = place});
  return found.share;
}

double read_json_lines(const DataSource& source, const text::ChatTemplates* templates,
                       const DocumentVisit& visit) {
  const MappedFile file = MappedFile::open(source.path);
  const FileText found = text_of(file, source);
  const std::string_view text = found.text;
  const auto first = static_cast<size_t>(text.data() - reinterpret_cast<const char*>(file.bytes().data()));
  int64_t number = 0;
  bool any = false;
  std::string_view first_absent;
  std::string absent_place;
  for (size_t start = 0, held = 0; start < text.size();) {
    if (start - held > kReadPiece) {
      file.release(file.bytes().subspan(first + held, start - held));
      held = start;
    }
    const size_t end = std::min(text.find('\n', start), text.size());
    const std::string_view line = text.substr(start, end - start);
    start = end + 1;
    ++number;
    if (is_blank(line)) continue;
    const std::string place = fmt::format("{}:{}", source.path.string(), number);
    const ordered_json value = parse_line(line, place);
    if (is_absent(value, source)) {
      if (first_absent.empty()) first_absent = line, absent_place = place;
      visit({.form = Document::Form::absent, .text = {}, .ids = {}, .place = place});
      continue;
    }
    any = true;
    visit_line(value, source, templates, place, visit);
  }
  if (!any && !first_absent.empty() && found.whole())  // an error, that of the first
    visit_line(parse_line(first_absent, absent_place), source, templates, absent_place, visit);
  return found.share;
}

}  // namespace lathe
