#include "formats/safetensors/json_text.h"

#include <set>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 64;
constexpr size_t kMaxQuoted = 120;

/// Refuses what nlohmann's parser lets pass: repeated keys and any depth.
class StrictFilter {
 public:
  StrictFilter(const std::string& where, int max_depth, const JsonFilter& next)
      : where_(where), max_depth_(max_depth), next_(next), keys_(static_cast<size_t>(max_depth)) {}

  bool operator()(int depth, json::parse_event_t event, json& parsed) {
    const auto level = static_cast<size_t>(depth);
    if (event == json::parse_event_t::object_start || event == json::parse_event_t::array_start) {
      if (depth >= max_depth_) user_error("{}: JSON nested deeper than {} levels", where_, max_depth_);
      keys_[level].clear();
    }
    if (event == json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys_[level - 1].insert(key).second)
        user_error("{}: the key {} stands twice", where_, quote_text(key));
    }
    return !next_ || next_(depth, event, parsed);
  }

 private:
  const std::string& where_;
  int max_depth_;
  const JsonFilter& next_;
  std::vector<std::set<std::string>> keys_;  // of the open object at each level
};

}  // namespace

std::string quote_text(std::string_view text) {
  std::string escaped = json(text.substr(0, kMaxQuoted)).dump(-1, ' ', true, json::error_handler_t::replace);
  escaped = escaped.substr(1, escaped.size() - 2);  // json's own quotes
  return fmt::format("'{}{}'", escaped, text.size() > kMaxQuoted ? "..." : "");
}

json parse_json_object(std::string_view text, const std::string& where, int max_depth,
                       const JsonFilter& filter) {
  if (const auto offset = invalid_utf8_offset(text))
    user_error("{}: not valid UTF-8 at byte {}", where, *offset);
  // nlohmann's lexer takes a NUL byte for the end of the text.
  if (const auto nul = text.find('\0'); nul != text.npos)
    user_error("{}: not JSON: a NUL at byte {}", where, nul);
  json value;
  try {
    // By reference: the parser copies its callback, and the filter's state with it.
    StrictFilter strict(where, max_depth, filter);
    value =
        json::parse(text.begin(), text.end(), [&strict](int depth, json::parse_event_t event, json& parsed) {
          return strict(depth, event, parsed);
        });
  } catch (const json::parse_error& error) {
    user_error("{}: not valid JSON near byte {}", where, error.byte);
  } catch (const json::out_of_range&) {
    user_error("{}: not valid JSON: a number is out of range", where);
  }
  if (!value.is_object()) user_error("{}: expected a JSON object, found {}", where, value.type_name());
  return value;
}

json read_json_object(const std::filesystem::path& path, uint64_t max_bytes) {
  return parse_json_object(read_text_file(path, max_bytes), path.string(), kMaxDepth);
}

}  // namespace lathe
