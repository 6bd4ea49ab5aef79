#include "formats/gguf/gguf_cursor.h"

#include <algorithm>
#include <array>
#include <type_traits>

#include "formats/safetensors/json_text.h"
#include "lib/base/terminal.h"

namespace lathe {
namespace {

/// Calls visit with a null pointer of the C++ type of a kind. Never with array.
template <class Visit>
auto with_type(GgufKind kind, Visit&& visit) {
  switch (kind) {
    using enum GgufKind;
    case u8:
      return visit(static_cast<uint8_t*>(nullptr));
    case i8:
      return visit(static_cast<int8_t*>(nullptr));
    case u16:
      return visit(static_cast<uint16_t*>(nullptr));
    case i16:
      return visit(static_cast<int16_t*>(nullptr));
    case u32:
      return visit(static_cast<uint32_t*>(nullptr));
    case i32:
      return visit(static_cast<int32_t*>(nullptr));
    case f32:
      return visit(static_cast<float*>(nullptr));
    case boolean:
      return visit(static_cast<GgufBool*>(nullptr));
    case string:
      return visit(static_cast<std::string*>(nullptr));
    case u64:
      return visit(static_cast<uint64_t*>(nullptr));
    case i64:
      return visit(static_cast<int64_t*>(nullptr));
    case f64:
      return visit(static_cast<double*>(nullptr));
    case array:
      break;
  }
  internal_error("a GGUF array where a scalar was expected");
}

template <class T>
T read_scalar(GgufCursor& cursor, const std::string& key) {
  const std::string what = "value of key " + quote_text(key);
  if constexpr (std::is_same_v<T, std::string>) {
    return cursor.string(what);
  } else if constexpr (std::is_same_v<T, GgufBool>) {
    const auto byte = cursor.number<uint8_t>(what);
    if (byte > 1) cursor.refuse("key {}: expected a bool, 0 or 1, found {}", quote_text(key), byte);
    return static_cast<GgufBool>(byte);
  } else {
    return cursor.number<T>(what);
  }
}

template <class T>
constexpr uint64_t kLeastBytes = std::is_same_v<T, std::string> ? sizeof(uint64_t) : sizeof(T);

}  // namespace

GgufKind GgufCursor::kind(const std::string& key) {
  const auto id = number<uint32_t>("type of key " + quote_text(key));
  if (id > static_cast<uint32_t>(GgufKind::f64))
    refuse("key {}: expected a value type from 0 to {}, found {}", quote_text(key),
           static_cast<uint32_t>(GgufKind::f64), id);
  return static_cast<GgufKind>(id);
}

GgufArray GgufCursor::array(const std::string& key) {
  const GgufKind element = kind(key);
  if (element == GgufKind::array) refuse("key {}: an array of arrays", quote_text(key));
  const auto count = number<uint64_t>("length of key " + quote_text(key));
  return with_type(element, [&]<class T>(T*) {
    expect_room(count, kLeastBytes<T>, "length of key " + quote_text(key));
    std::vector<T> values;
    values.reserve(count);
    for (uint64_t i = 0; i < count; ++i) values.push_back(read_scalar<T>(*this, key));
    return GgufArray(std::move(values));
  });
}

GgufValue GgufCursor::value(GgufKind kind, const std::string& key) {
  if (kind == GgufKind::array) return array(key);
  return with_type(kind, [&]<class T>(T*) { return GgufValue(read_scalar<T>(*this, key)); });
}

std::string GgufCursor::name(std::string_view what) {
  std::string found = string(what);
  if (found.empty()) refuse("{} without a name", what);
  if (std::ranges::any_of(found, is_control))
    refuse("{}, {}: its name holds a control character", what, quote_text(found));
  return found;
}

std::pair<std::string, GgufValue> GgufCursor::key_value() {
  std::string key = name("a key");
  const GgufKind type = kind(key);
  GgufValue result = value(type, key);
  return {std::move(key), std::move(result)};
}

}  // namespace lathe
