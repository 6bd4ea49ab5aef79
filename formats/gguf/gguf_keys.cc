#include "formats/gguf/gguf_keys.h"

#include <fmt/format.h>

#include <cmath>
#include <type_traits>

#include "formats/safetensors/json_text.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

double shortest(float value) { return std::stod(fmt::format("{}", value)); }

}  // namespace

GgufKeys::GgufKeys(const GgufFile& file) : file_(file) {
  architecture_ = text("general.architecture").value_or("");
  if (architecture_.empty()) refuse("general.architecture", "a name, such as llama", nullptr);
}

std::optional<std::string> GgufKeys::text(const std::string& key) const {
  const GgufValue* value = file_.find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* found = std::get_if<std::string>(value)) return *found;
  refuse(key, "a string", value);
}

std::optional<int64_t> GgufKeys::count(const std::string& key) const {
  const std::string name = architecture_ + "." + key;
  const GgufValue* value = file_.find(name);
  if (value == nullptr) return std::nullopt;
  const auto number = std::visit(
      [](const auto& v) -> std::optional<int64_t> {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_integral_v<T>) {
          if (v >= 1 && static_cast<uint64_t>(v) <= uint64_t{1} << 40) return static_cast<int64_t>(v);
        }
        return std::nullopt;
      },
      *value);
  if (!number) refuse(name, "a whole number above 0", value);
  return number;
}

int64_t GgufKeys::required_count(const std::string& key) const {
  const auto value = count(key);
  if (!value) refuse(architecture_ + "." + key, "a whole number above 0", nullptr);
  return *value;
}

std::optional<double> GgufKeys::real(const std::string& key) const {
  const std::string name = architecture_ + "." + key;
  const GgufValue* value = file_.find(name);
  if (value == nullptr) return std::nullopt;
  const auto* found = std::get_if<float>(value);
  if (found == nullptr || !std::isfinite(*found)) refuse(name, "a finite f32", value);
  return shortest(*found);
}

double GgufKeys::required_real(const std::string& key) const {
  const auto value = real(key);
  if (!value) refuse(architecture_ + "." + key, "a finite f32", nullptr);
  return *value;
}

void GgufKeys::refuse(const std::string& key, std::string_view expected, const GgufValue* found) const {
  user_error("{}: key {}: expected {}, found {}", file_.path().string(), quote_text(key), expected,
             found == nullptr ? "none"
                              : fmt::format("{} {}", name_of(kind_of(*found)), quote_text(describe(*found))));
}

}  // namespace lathe
