#include "lib/text/json_reader.h"

#include "lib/base/error.h"

namespace lathe::text {

std::string JsonValue::where() const { return path_.empty() ? file_ : fmt::format("{}: {}", file_, path_); }

void JsonValue::expected(std::string_view what) const {
  // dump() recurses: not on a value that may be nested a million deep.
  std::string found = value_->is_structured()
                          ? fmt::format("an {}", value_->type_name())
                          : value_->dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (found.size() > 60) found = found.substr(0, 57) + "...";
  user_error("{}: expected {}, found {}", where(), what, found);
}

void JsonValue::unsupported(std::string_view component, std::string_view supported) const {
  user_error("{}: component '{}' is not supported; supported here: {}", where(), component, supported);
}

const nlohmann::json& JsonValue::object() const {
  if (!value_->is_object()) expected("an object");
  return *value_;
}

bool JsonValue::has(std::string_view key) const { return !is_null() && object().contains(key); }

JsonValue JsonValue::at(const std::string& key) const {
  const std::string path = path_.empty() ? key : path_ + "." + key;
  const auto found = object().find(key);
  if (found == value_->end()) user_error("{}: {}: the key is missing", file_, path);
  return JsonValue(*found, file_, path);
}

std::vector<JsonValue> JsonValue::items() const {
  if (!value_->is_array()) expected("an array");
  std::vector<JsonValue> items;
  items.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i) {
    items.emplace_back((*value_)[i], file_, fmt::format("{}[{}]", path_, i));
  }
  return items;
}

const std::string& JsonValue::text() const {
  if (!value_->is_string()) expected("a string");
  return value_->get_ref<const std::string&>();
}

bool JsonValue::boolean() const {
  if (!value_->is_boolean()) expected("true or false");
  return value_->get<bool>();
}

int64_t JsonValue::id() const {
  if (!value_->is_number_unsigned() || value_->get<uint64_t>() > INT32_MAX)
    expected("an id from 0 to 2147483647");
  return static_cast<int64_t>(value_->get<uint64_t>());
}

bool JsonValue::boolean_or(const std::string& key, bool otherwise) const {
  return has(key) && !at(key).is_null() ? at(key).boolean() : otherwise;
}

std::string JsonValue::text_or_empty(const std::string& key) const {
  return has(key) && !at(key).is_null() ? at(key).text() : std::string();
}

nlohmann::json parse_json(std::string_view text, const std::string& file) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    user_error("{}: expected JSON; {}", file, error.what());
  }
}

}  // namespace lathe::text
