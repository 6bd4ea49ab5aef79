#include "formats/gguf/gguf_split.h"

#include <fmt/format.h>

#include <limits>
#include <regex>
#include <type_traits>
#include <utility>
#include <variant>

#include "formats/safetensors/json_text.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr const char *kNumber = "split.no", *kCount = "split.count", *kTensors = "split.tensors.count";
constexpr int64_t kMostParts = 65535;  // u16

/// Nothing where there is no such key.
std::optional<int64_t> whole_number(const GgufFile& file, const char* key, int64_t least, int64_t most) {
  const GgufValue* value = file.find(key);
  if (value == nullptr) return std::nullopt;
  const auto number = std::visit(
      [&](const auto& v) -> std::optional<int64_t> {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_integral_v<T>) {
          if (std::in_range<int64_t>(v) && std::cmp_greater_equal(v, least) && std::cmp_less_equal(v, most))
            return static_cast<int64_t>(v);
        }
        return std::nullopt;
      },
      *value);
  if (!number) {
    user_error("{}: key '{}': expected a whole number from {} to {}, found {} {}", file.path().string(), key,
               least, most, name_of(kind_of(*value)), quote_text(describe(*value)));
  }
  return number;
}

int64_t required(const std::optional<int64_t>& number, const GgufFile& file, const char* key) {
  if (!number) user_error("{}: key '{}' is missing in a part of a split model", file.path().string(), key);
  return *number;
}

}  // namespace

std::string split_name(const std::string& name, int64_t number, int64_t count) {
  return fmt::format("{}-{:05}-of-{:05}.gguf", name, number + 1, count);
}

std::string whole_name(const std::string& stem) {
  static const std::regex kPart("-[0-9]{5}-of-[0-9]{5}$");
  return std::regex_replace(stem, kPart, "");
}

bool is_later_part(const std::filesystem::path& file) {
  static const std::regex kPart("-([0-9]{5})-of-[0-9]{5}\\.gguf$");
  const std::string name = file.filename().string();
  std::smatch match;
  return std::regex_search(name, match, kPart) && match[1] != "00001";
}

GgufMetadata split_keys(const SplitPlace& place) {
  return {{kNumber, static_cast<uint16_t>(place.number)},
          {kCount, static_cast<uint16_t>(place.count)},
          {kTensors, static_cast<int32_t>(place.tensors)}};
}

std::optional<SplitPlace> split_place(const GgufFile& file) {
  const auto count = whole_number(file, kCount, 0, kMostParts);
  if (!count || *count == 0) return std::nullopt;
  SplitPlace place{.number = 0, .count = *count, .tensors = 0};
  place.number = required(whole_number(file, kNumber, 0, *count - 1), file, kNumber);
  place.tensors =
      required(whole_number(file, kTensors, 0, std::numeric_limits<int32_t>::max()), file, kTensors);
  return place;
}

std::vector<std::filesystem::path> later_parts(const GgufFile& first, const SplitPlace& place) {
  const std::string file = first.path().filename().string();
  const std::string ending = split_name("", place.number, place.count);
  if (!file.ends_with(ending)) {
    user_error("{}: says that it is part {} of {}, so its name should end with {}", first.path().string(),
               place.number + 1, place.count, ending);
  }
  const std::string name = file.substr(0, file.size() - ending.size());
  if (place.number != 0) {
    user_error("{}: is part {} of {} of a split model: name the first, {}", first.path().string(),
               place.number + 1, place.count, split_name(name, 0, place.count));
  }
  std::vector<std::filesystem::path> parts;
  for (int64_t i = 1; i < place.count; ++i) {
    parts.push_back(first.path().parent_path() / split_name(name, i, place.count));
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(parts.back(), ignored)) {
      user_error("{}: is missing: part {} of {} of {}", parts.back().string(), i + 1, place.count,
                 first.path().filename().string());
    }
  }
  return parts;
}

void check_part(const GgufFile& file, const SplitPlace& expected) {
  const auto place = split_place(file);
  const SplitPlace found = place.value_or(SplitPlace{});
  if (place && found.number == expected.number && found.count == expected.count &&
      found.tensors == expected.tensors)
    return;
  user_error("{}: expected part {} of {} (of {} tensors), found {}", file.path().string(),
             expected.number + 1, expected.count, expected.tensors,
             place
                 ? fmt::format("part {} of {} (of {} tensors)", found.number + 1, found.count, found.tensors)
                 : "a whole file");
}

}  // namespace lathe
