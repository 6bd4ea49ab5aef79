#include "formats/targets/strict_object.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "formats/safetensors/json_text.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using nlohmann::json;

/// A value for a message: strings without their JSON quotes.
std::string describe(const json& value) {
  return quote_text(value.is_string() ? value.get_ref<const std::string&>() : value.dump());
}

std::string join_choices(const std::vector<std::string>& choices) {
  return fmt::format("{}", fmt::join(choices, " or "));
}

}  // namespace

StrictObject::StrictObject(const json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object.is_object()) user_error("{}: expected an object, found {}", where_, describe(object));
}

const json* StrictObject::find(const std::string& key) {
  known_.push_back(key);
  const auto it = object_.find(key);
  return it == object_.end() ? nullptr : &*it;
}

const json& StrictObject::need(const std::string& key, const char* expected) {
  const json* value = find(key);
  if (value == nullptr) user_error("{}: missing key '{}': expected {}", where_, key, expected);
  return *value;
}

void StrictObject::refuse(const std::string& key, const std::string& expected) const {
  user_error("{}.{}: expected {}, found {}", where_, key, expected, describe(object_.at(key)));
}

std::string StrictObject::word(const std::string& key, const std::vector<std::string>& choices) {
  const std::string expected = join_choices(choices);
  const json& value = need(key, expected.c_str());
  if (!value.is_string() || std::ranges::find(choices, value.get_ref<const std::string&>()) == choices.end())
    refuse(key, expected);
  return value;
}

std::string StrictObject::optional_word(const std::string& key, const std::vector<std::string>& choices) {
  const json* value = find(key);
  return value != nullptr && !value->is_null() ? word(key, choices) : "";
}

bool StrictObject::truth(const std::string& key) {
  const json& value = need(key, "true or false");
  if (!value.is_boolean()) refuse(key, "true or false");
  return value;
}

int StrictObject::integer(const std::string& key, int low, int high) {
  const std::string expected = low == high ? std::to_string(low) : fmt::format("{} to {}", low, high);
  const json& value = need(key, expected.c_str());
  if (!value.is_number_integer() || value < low || value > high) refuse(key, expected);
  return value;
}

int StrictObject::optional_integer(const std::string& key, int low, int high, int otherwise) {
  const json* value = find(key);
  return value != nullptr && !value->is_null() ? integer(key, low, high) : otherwise;
}

std::vector<std::string> StrictObject::words(const std::string& key, bool required) {
  const json* value = find(key);
  if (value == nullptr || value->is_null()) {
    if (required) user_error("{}: missing key '{}': expected a list of names", where_, key);
    return {};
  }
  const bool strings = value->is_array() && std::all_of(value->begin(), value->end(),
                                                        [](const json& item) { return item.is_string(); });
  if (!strings) refuse(key, "a list of names");
  return *value;
}

void StrictObject::unused(const std::string& key, const std::string& feature) {
  const json* value = find(key);
  if (value == nullptr || value->is_null()) return;
  if (!value->is_structured() || !value->empty())
    refuse(key, fmt::format("null ({} is not supported)", feature));
}

void StrictObject::informational(std::initializer_list<const char*> keys) {
  known_.insert(known_.end(), keys.begin(), keys.end());
}

void StrictObject::no_other_keys() const {
  for (const auto& [key, value] : object_.items()) {
    if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
    user_error("{}: unknown key {}{}", where_, quote_text(key), did_you_mean(key, known_));
  }
}

}  // namespace lathe
