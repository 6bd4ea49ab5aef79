// A JSON value as a document: text, a conversation, or token ids.
#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calib/data/documents.h"

namespace lathe {

/// UserError where JSON of a document is nested deeper than any conversation is: nlohmann's values are copied
/// and printed by recursion, without a bound. Looks at brackets outside of strings alone.
void check_nesting(std::string_view json, const std::string& place);

/// The fields that are looked for, in this order, where a source names none.
const std::vector<std::string>& default_fields();

/// The field to read, as choose_field() says it; nothing where there is none.
std::optional<std::string> find_field(const DataSource& source, const std::vector<std::string>& existing);

/// The field to read: source.field, or the first default one among `existing`. `what`: "the object",
/// "the file". UserError "`place`: `what` has no field ..., its fields are ..." where there is none.
std::string choose_field(const DataSource& source, const std::vector<std::string>& existing,
                         std::string_view what, const std::string& place);

/// Fields beside a document's own that belong to it; null where there are none.
struct CompanionFields {
  nlohmann::ordered_json tools;           // of a conversation: a list, or a list written as JSON text
  nlohmann::ordered_json attention_mask;  // of token ids: a list of 0 and 1, as attended() takes it
  nlohmann::ordered_json token_weights;   // of token ids: a list of as many numbers
};
inline constexpr const char* kTools = "tools";
inline constexpr const char* kAttentionMask = "attention_mask";

/// UserError: weights of tokens stand beside a text or a conversation, whose tokens nobody has counted yet.
[[noreturn]] void refuse_weights_of_text(const std::string& where);

/// Visits the one document that `value` holds. `name` of the field, for errors; empty for a bare value.
void visit_value(const nlohmann::ordered_json& value, const std::string& name, const CompanionFields& beside,
                 const text::ChatTemplates* templates, const std::string& place, const DocumentVisit& visit);

}  // namespace lathe
