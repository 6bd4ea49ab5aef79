#include "lib/model/json_fields.h"

#include <nlohmann/json.hpp>

#include <limits>

#include "lib/base/error.h"

namespace lathe {
namespace {

// The value as it stands in the file, cut to a length that fits into a message.
std::string describe(const nlohmann::json& value) {
  constexpr size_t kLongest = 48;
  if (value.is_object()) return "an object";
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > kLongest) text.replace(kLongest, std::string::npos, "...");
  return text;
}

}  // namespace

JsonFields::JsonFields(const nlohmann::json& object, std::string file, std::string prefix)
    : object_(object), file_(std::move(file)), prefix_(std::move(prefix)) {
  if (object_.is_object()) return;
  if (prefix_.empty()) user_error("{}: expected a JSON object, found {}", file_, describe(object_));
  const std::string key = prefix_.substr(0, prefix_.size() - 1);
  user_error("{}: key '{}': expected an object, found {}", file_, key, describe(object_));
}

const nlohmann::json* JsonFields::find(const std::string& key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<int64_t> JsonFields::integer(const std::string& key) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer()) fail(key, "an integer");
  const bool too_large =
      value->is_number_unsigned() && value->get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()};
  if (too_large) fail(key, "an integer of 64 bits");
  return value->get<int64_t>();
}

std::optional<double> JsonFields::number(const std::string& key) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) fail(key, "a number");
  return value->get<double>();
}

std::optional<bool> JsonFields::flag(const std::string& key) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) fail(key, "true or false");
  return value->get<bool>();
}

std::optional<std::string> JsonFields::word(const std::string& key) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) fail(key, "a string");
  return value->get<std::string>();
}

std::optional<int64_t> JsonFields::size(const std::string& key, int64_t maximum) const {
  const std::optional<int64_t> value = integer(key);
  if (value && (*value < 1 || *value > maximum)) fail(key, fmt::format("an integer from 1 to {}", maximum));
  return value;
}

int64_t JsonFields::required_size(const std::string& key, int64_t maximum) const {
  const std::optional<int64_t> value = size(key, maximum);
  if (!value) fail(key, fmt::format("an integer from 1 to {}", maximum));
  return *value;
}

double JsonFields::required_number(const std::string& key) const {
  const std::optional<double> value = number(key);
  if (!value) fail(key, "a number");
  return *value;
}

void JsonFields::fail(const std::string& key, std::string_view expected) const {
  const auto found = object_.find(key);
  user_error("{}: key '{}{}': expected {}, found {}", file_, prefix_, key, expected,
             found == object_.end() ? "no such key" : describe(*found));
}

}  // namespace lathe
