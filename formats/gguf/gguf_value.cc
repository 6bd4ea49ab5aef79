#include "formats/gguf/gguf_value.h"

#include <fmt/format.h>

#include <array>

namespace lathe {
namespace {

constexpr size_t kShownBytes = 60;

struct Describe {
  std::string operator()(GgufBool value) const { return value == GgufBool::yes ? "true" : "false"; }
  std::string operator()(const std::string& text) const {
    return text.size() <= kShownBytes ? text : fmt::format("{:.{}}...", text, kShownBytes);
  }
  std::string operator()(const GgufArray& array) const {
    const size_t count = std::visit(
        [](const auto& values) -> size_t {
          if constexpr (std::is_same_v<std::decay_t<decltype(values)>, std::monostate>) {
            return 0;
          } else {
            return values.size();
          }
        },
        array);
    return fmt::format("array of {} {}", count, name_of(static_cast<GgufKind>(array.index())));
  }
  template <class Number>
  std::string operator()(Number value) const {
    return fmt::format("{}", value);
  }
};

}  // namespace

std::string_view name_of(GgufKind kind) {
  constexpr std::array<std::string_view, 13> kNames = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                       "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[static_cast<size_t>(kind)];
}

std::string describe(const GgufValue& value) { return std::visit(Describe{}, value); }

}  // namespace lathe
