#include "recipes/yaml_tree.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <sstream>

#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

/// Aliases multiply what a file holds: far above any recipe, far below what hurts.
constexpr int64_t kMaxValues = 100'000;
constexpr int kMaxDepth = 64;
constexpr size_t kMaxShown = 60;
/// A comment behind the text. yaml-cpp 0.7 takes the end of the file for a missing closing quote: then this
/// comment is found inside a value.
constexpr std::string_view kEndMark = "#<the end of the recipe>#";

/// Where a value stands: a place in a file, or one --set argument for all.
struct Source {
  std::string file;
  std::string fixed;

  std::string at(int line, int column) const {
    return fixed.empty() ? fmt::format("{}:{}:{}", file, line + 1, column + 1) : fixed;
  }
  std::string at(const YAML::Mark& mark) const {
    return mark.is_null() ? (fixed.empty() ? file : fixed) : at(mark.line, mark.column);
  }
};

class Converter {
 public:
  explicit Converter(const Source& source) : source_(source) {}

  YamlValue convert(const YAML::Node& node, int depth) {
    YamlValue value;
    value.where = source_.at(node.Mark());
    if (depth > kMaxDepth) {
      user_error("{}: expected at most {} nested levels, found more (does an alias contain itself?)",
                 value.where, kMaxDepth);
    }
    if (++values_ > kMaxValues) {
      user_error("{}: expected at most {} values, found more (aliases counted each time)", value.where,
                 kMaxValues);
    }
    check_tag(node, value.where);
    switch (node.Type()) {
      case YAML::NodeType::Undefined:
      case YAML::NodeType::Null:
        break;
      case YAML::NodeType::Scalar:
        convert_scalar(node, value);
        break;
      case YAML::NodeType::Sequence:
        value.kind = YamlValue::Kind::list;
        for (const auto& item : node) value.items.push_back(convert(item, depth + 1));
        break;
      case YAML::NodeType::Map:
        convert_map(node, value, depth);
        break;
    }
    return value;
  }

 private:
  static void check_tag(const YAML::Node& node, const std::string& where) {
    const std::string& tag = node.Tag();
    const bool plain = tag.empty() || tag == "?" || tag == "!";
    if (plain || (node.IsScalar() && tag == "tag:yaml.org,2002:str")) return;
    user_error("{}: expected a value without a tag, found the tag '{}'", where, tag);
  }

  static void convert_scalar(const YAML::Node& node, YamlValue& value) {
    value.kind = YamlValue::Kind::scalar;
    value.scalar = node.Scalar();
    if (value.scalar.find(kEndMark) != std::string::npos) {
      user_error("{}: expected a closing quote, found the end of the text", value.where);
    }
    value.plain = node.Tag() == "?" || node.Tag().empty();
  }

  void convert_map(const YAML::Node& node, YamlValue& value, int depth) {
    value.kind = YamlValue::Kind::map;
    for (const auto& entry : node) {
      const std::string where = source_.at(entry.first.Mark());
      if (!entry.first.IsScalar()) user_error("{}: expected a word as the key, found something else", where);
      const std::string& key = entry.first.Scalar();
      if (const YamlValue* other = value.find(key)) {
        user_error("{}: {}: expected each key once, found it again (first at {})", where, key,
                   other->key_where);
      }
      YamlValue item = convert(entry.second, depth + 1);
      // yaml-cpp places a missing value at the next token, which may be lines away.
      if (item.kind == YamlValue::Kind::null) item.where = where;
      item.key = key;
      item.key_where = where;
      value.items.push_back(std::move(item));
    }
  }

  const Source& source_;
  int64_t values_ = 0;
};

/// Line and column of an offset, both from 0; lines end with a line feed, columns count bytes, as in
/// yaml-cpp.
std::pair<int, int> position_of(const std::string& text, size_t offset) {
  int line = 0, column = 0;
  for (size_t i = 0; i < offset && i < text.size(); ++i) {
    column = text[i] == '\n' ? 0 : column + 1;
    line += text[i] == '\n';
  }
  return {line, column};
}

/// Bytes that YAML forbids. yaml-cpp would take some of them for the end of the file.
void check_characters(const std::string& text, const Source& source) {
  const auto refuse = [&](size_t offset, const std::string& found) {
    const auto [line, column] = position_of(text, offset);
    user_error("{}: expected YAML as UTF-8 text, found {}", source.at(line, column), found);
  };
  if (const auto offset = invalid_utf8_offset(text)) {
    refuse(*offset, fmt::format("the byte 0x{:02x}", static_cast<unsigned char>(text[*offset])));
  }
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7f) {
      refuse(i, fmt::format("the control character 0x{:02x}", byte));
    }
  }
}

/// yaml-cpp's texts don't say what is wrong with a tab.
const char* tab_hint(const std::string& text, int line) {
  size_t start = 0;
  for (int i = 0; i < line && start != std::string::npos; ++i) {
    start = text.find('\n', start);
    if (start != std::string::npos) ++start;
  }
  if (start == std::string::npos) return "";
  const size_t end = text.find_first_not_of(" \t", start);
  const bool tab =
      text.substr(start, end == std::string::npos ? end : end - start).find('\t') != std::string::npos;
  return tab ? " (this line is indented with a tab; YAML wants spaces)" : "";
}

[[noreturn]] void refuse_syntax(const YAML::Exception& error, const std::string& text, const Source& source) {
  const size_t last = text.find_last_not_of(" \t\r\n");
  const auto [line, column] = position_of(text, last == std::string::npos ? 0 : last + 1);
  if (error.mark.line > line) {
    user_error(
        "{}: expected valid YAML, found the end of the text while a bracket, brace or quote is open ({})",
        source.at(line, column), error.msg);
  }
  user_error("{}: expected valid YAML, found a syntax error: {}{}", source.at(error.mark), error.msg,
             tab_hint(text, error.mark.line));
}

/// yaml-cpp 0.7 takes a comma or a closing bracket outside of brackets for one empty document after the
/// other, without end and without room for them; so they are counted before they are loaded.
class DocumentCount : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override {
    constexpr int kMost = 100;
    if (++count_ > kMost) throw YAML::ParserException(mark, "a comma or closing bracket is out of place");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
  }
  void OnMapEnd() override {}

 private:
  int count_ = 0;
};

std::vector<YAML::Node> load_documents(const std::string& text, const Source& source) {
  check_characters(text, source);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    DocumentCount count;
    while (parser.HandleNextDocument(count)) {
    }
    return YAML::LoadAll(fmt::format("{}\n{}\n", text, kEndMark));
  } catch (const YAML::Exception& error) {
    refuse_syntax(error, text, source);
  }
}

}  // namespace

YamlValue* YamlValue::find(std::string_view wanted) {
  if (kind != Kind::map) return nullptr;
  for (YamlValue& item : items) {
    if (item.key == wanted) return &item;
  }
  return nullptr;
}

const YamlValue* YamlValue::find(std::string_view wanted) const {
  return const_cast<YamlValue*>(this)->find(wanted);
}

std::string YamlValue::describe() const {
  switch (kind) {
    case Kind::null:
      return "nothing";
    case Kind::scalar:
      break;
    case Kind::list:
      return items.empty() ? "an empty list" : fmt::format("a list of {}", items.size());
    case Kind::map:
      return items.empty() ? "an empty map" : fmt::format("a map with the key '{}'", items.front().key);
  }
  std::string shown = scalar;
  if (shown.size() > kMaxShown) {
    size_t length = kMaxShown;
    while ((static_cast<unsigned char>(shown[length]) & 0xC0) == 0x80)
      --length;  // not inside a UTF-8 sequence
    shown.resize(length);
    shown += "...";
  }
  for (char& c : shown) c = c == '\n' || c == '\r' || c == '\t' ? ' ' : c;
  return plain ? fmt::format("'{}'", shown) : fmt::format("the text \"{}\"", shown);
}

YamlValue parse_yaml(const std::string& text, const std::string& file) {
  const Source source{.file = file, .fixed = {}};
  const std::vector<YAML::Node> documents = load_documents(text, source);
  if (documents.empty())
    user_error("{}:1:1: expected a recipe (a YAML map with the key 'rules'), found an empty file", file);
  if (documents.size() > 1) {
    user_error("{}: expected one YAML document, found {} (remove the '---' lines)",
               source.at(documents[1].Mark()), documents.size());
  }
  return Converter(source).convert(documents[0], 0);
}

YamlValue parse_yaml_value(const std::string& text, const std::string& where) {
  const Source source{.file = {}, .fixed = where};
  const std::vector<YAML::Node> documents = load_documents(text, source);
  if (documents.size() > 1) user_error("{}: expected one value, found {}", where, documents.size());
  YamlValue value;
  value.where = where;
  return documents.empty() ? value : Converter(source).convert(documents[0], 0);
}

}  // namespace lathe
