// JSON from files that nobody vouches for: parsed strictly, and quoted safely in one-line messages.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace lathe {

/// Text from a file for a message: in single quotes, control characters and non-ASCII escaped, cut after 120
/// bytes.
std::string quote_text(std::string_view text);

/// Called for each event that the parser sees, as nlohmann's parser_callback_t; false drops the value.
using JsonFilter =
    std::function<bool(int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed)>;

/// Parses one JSON object. UserError "`where`: ..." for ill-formed UTF-8, NUL bytes, malformed JSON, anything
/// nested deeper than `max_depth` (the object itself is level 1), a key that stands twice in one object, and
/// a value that is not an object. Python's and nlohmann's readers silently keep the last of two equal keys.
nlohmann::json parse_json_object(std::string_view text, const std::string& where, int max_depth,
                                 const JsonFilter& filter = {});

/// The same for a whole file of at most `max_bytes`; nesting up to 64 levels.
nlohmann::json read_json_object(const std::filesystem::path& path, uint64_t max_bytes);

}  // namespace lathe
