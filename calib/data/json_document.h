// A JSON value as a document: text, a conversation, or token ids.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "calib/data/documents.h"

namespace lathe {

/// The fields that are looked for, in this order, where a source names none.
const std::vector<std::string>& default_fields();

/// The field to read: source.field, or the first default one among `existing`. `what`: "the object",
/// "the file". UserError "`place`: `what` has no field ..., its fields are ..." where there is none.
std::string choose_field(const DataSource& source, const std::vector<std::string>& existing,
                         std::string_view what, const std::string& place);

/// Visits the one document that `value` holds. `name` of the field, for errors; empty for a bare value.
/// `tools` of a conversation: null, a list, or a list written as JSON text.
void visit_value(const nlohmann::ordered_json& value, const std::string& name,
                 const nlohmann::ordered_json& tools, const text::ChatTemplates* templates,
                 const std::string& place, const DocumentVisit& visit);

}  // namespace lathe
