#include "calib/data/json_document.h"

#include <algorithm>
#include <limits>

#include "calib/data/attention_mask.h"
#include "calib/data/token_weights.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using nlohmann::ordered_json;

std::string quoted_list(const std::vector<std::string>& names) {
  std::vector<std::string> quoted;
  for (const std::string& name : names) quoted.push_back("'" + name + "'");
  return quoted.empty() ? "none" : join_words(quoted);
}

/// "a.jsonl:3: field 'x'", or the place alone for a bare value.
std::string where_of(const std::string& place, const std::string& name) {
  return name.empty() ? place : fmt::format("{}: field '{}'", place, name);
}

std::vector<int64_t> ids_of(const ordered_json& list, const std::string& where) {
  std::vector<int64_t> ids;
  ids.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const ordered_json& id = list[i];
    const bool fits =
        id.is_number_integer() &&
        (!id.is_number_unsigned() || id.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()});
    if (!fits)
      user_error("{}: element {}: expected a token id, found {}", where, i,
                 id.is_number() ? id.dump() : id.type_name());
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

/// The mask's values; true and false are 1 and 0.
std::vector<int64_t> mask_of(const ordered_json& list, const std::string& where) {
  if (!list.is_array()) user_error("{}: expected a list of 0 and 1, found {}", where, list.type_name());
  std::vector<int64_t> mask;
  mask.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const ordered_json& value = list[i];
    if (!value.is_boolean() && value != 0 && value != 1)
      user_error("{}: element {}: expected 0 or 1, found {}", where, i,
                 value.is_number() ? value.dump() : value.type_name());
    mask.push_back(value.is_boolean() ? int64_t{value.get<bool>()} : value.get<int64_t>());
  }
  return mask;
}

/// The weights of so many ids; empty where there are none.
std::vector<float> weights_of(const ordered_json& list, size_t ids, const std::string& where) {
  if (list.is_null()) return {};
  if (!list.is_array()) user_error("{}: expected a list of numbers, found {}", where, list.type_name());
  if (list.size() != ids)
    user_error("{}: expected one value for each of the {} token ids, found {}", where, ids, list.size());
  std::vector<float> weights;
  weights.reserve(ids);
  for (size_t i = 0; i < list.size(); ++i) {
    if (!list[i].is_number())
      user_error("{}: element {}: expected a number, found {}", where, i, list[i].type_name());
    weights.push_back(static_cast<float>(list[i].get<double>()));
  }
  check_token_weights(weights, where);
  return weights;
}

void visit_ids(const std::vector<int64_t>& ids, const CompanionFields& beside, const std::string& place,
               const DocumentVisit& visit) {
  const std::vector<float> weights =
      weights_of(beside.token_weights, ids.size(), where_of(place, kTokenWeights));
  Attended kept{0, std::ssize(ids)};
  if (!beside.attention_mask.is_null()) {
    const std::string where = where_of(place, kAttentionMask);
    kept = attended(mask_of(beside.attention_mask, where), ids.size(), where);
  }
  const auto begin = static_cast<size_t>(kept.begin), count = static_cast<size_t>(kept.length);
  const std::span<const float> kept_weights(weights);
  visit({.form = Document::Form::ids,
         .text = {},
         .ids = std::span(ids).subspan(begin, count),
         .place = place,
         .weights = weights.empty() ? kept_weights : kept_weights.subspan(begin, count)});
}

ordered_json tools_of(const ordered_json& tools, const std::string& place) {
  ordered_json list = tools;
  if (tools.is_string()) {
    check_nesting(tools.get_ref<const std::string&>(), place + ": field 'tools'");
    list = ordered_json::parse(tools.get_ref<const std::string&>(), nullptr, /*allow_exceptions=*/false);
  }
  if (list.is_null() || list.is_array()) return list;
  user_error("{}: field 'tools': expected a list, a list as JSON text, or null", place);
}

void visit_conversation(const ordered_json& messages, const ordered_json& tools,
                        const text::ChatTemplates* templates, const std::string& place,
                        const std::string& where, const DocumentVisit& visit) {
  const ordered_json known_tools = tools_of(tools, place);
  const bool with_tools = known_tools.is_array() && !known_tools.empty();
  const text::ChatTemplate* chat = templates == nullptr ? nullptr : templates->choose(with_tools);
  if (chat == nullptr) {
    user_error("{}: a list of messages needs the model's chat template, {}, or give the text itself", where,
               templates == nullptr ? text::ChatTemplates().why_none() : templates->why_none());
  }
  const std::string text = chat->render(messages, with_tools ? known_tools : ordered_json(), where);
  visit({.form = Document::Form::chat, .text = text, .ids = {}, .place = place});
}

}  // namespace

void refuse_weights_of_text(const std::string& where) {
  user_error(
      "{}: expected token ids beside '{}', found text; name the field of ids with `field:`, or weigh the "
      "source as a whole with `token_weight:`",
      where, kTokenWeights);
}

void check_nesting(std::string_view json, const std::string& place) {
  constexpr int kDeepest = 64;
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string && c == '\\') {
      ++i;
    } else if (c == '"') {
      in_string = !in_string;
    } else if (!in_string && (c == '[' || c == '{')) {
      if (++depth > kDeepest) user_error("{}: JSON nested deeper than {} levels", place, kDeepest);
    } else if (!in_string && (c == ']' || c == '}')) {
      --depth;
    }
  }
}

const std::vector<std::string>& default_fields() {
  static const std::vector<std::string> fields = {"text", "messages", "input_ids"};
  return fields;
}

std::optional<std::string> find_field(const DataSource& source, const std::vector<std::string>& existing) {
  const auto has = [&](const std::string& name) {
    return std::ranges::find(existing, name) != existing.end();
  };
  if (!source.field.empty()) return has(source.field) ? std::optional(source.field) : std::nullopt;
  const auto found = std::ranges::find_if(default_fields(), has);
  return found != default_fields().end() ? std::optional(*found) : std::nullopt;
}

std::string choose_field(const DataSource& source, const std::vector<std::string>& existing,
                         std::string_view what, const std::string& place) {
  if (const auto found = find_field(source, existing)) return *found;
  if (!source.field.empty()) {
    user_error("{}: {} has no field '{}'; its fields are {}", place, what, source.field,
               quoted_list(existing));
  }
  user_error("{}: {} has no field {}; its fields are {}; name one with `field:`", place, what,
             "'text', 'messages' or 'input_ids'", quoted_list(existing));
}

void visit_value(const ordered_json& value, const std::string& name, const CompanionFields& beside,
                 const text::ChatTemplates* templates, const std::string& place, const DocumentVisit& visit) {
  const std::string where = where_of(place, name);
  const bool messages = value.is_array() && !value.empty() && value.front().is_object();
  if ((value.is_string() || messages) && !beside.token_weights.is_null()) refuse_weights_of_text(where);
  if (value.is_string()) {
    const std::string& text = value.get_ref<const std::string&>();
    return visit({.form = Document::Form::text, .text = text, .ids = {}, .place = place});
  }
  if (messages) return visit_conversation(value, beside.tools, templates, place, where, visit);
  if (!value.is_array()) {
    user_error("{}: expected a string, a list of messages or a list of token ids, found {}", where,
               value.type_name());
  }
  visit_ids(ids_of(value, where), beside, place, visit);
}

}  // namespace lathe
