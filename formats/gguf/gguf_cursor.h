// Reads a GGUF header from front to back; never past its end.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "formats/gguf/gguf_value.h"
#include "lib/base/error.h"

namespace lathe {

class GgufCursor {
 public:
  GgufCursor(std::span<const std::byte> bytes, std::string file) : bytes_(bytes), file_(std::move(file)) {}

  uint64_t position() const { return position_; }

  /// UserError: "<file>: at byte <position>: <text>".
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> text, Args&&... args) const {
    user_error("{}: at byte {}: {}", file_, position_, fmt::format(text, std::forward<Args>(args)...));
  }

  /// Refuses a count of entries, each of `least` bytes at least, that the rest of the file can't hold.
  void expect_room(uint64_t count, uint64_t least, std::string_view what) const {
    const uint64_t left = bytes_.size() - position_;
    if (count > left / least)
      refuse("{}: {} can't be true: {} bytes are left in the file; is it complete?", what, count, left);
  }

  /// `length` bytes.
  std::string_view text(uint64_t length, std::string_view what) {
    expect_room(length, 1, what);
    const auto part = bytes_.subspan(position_, length);
    position_ += length;
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }

  /// A number of the file's, which need not be aligned.
  template <class T>
  T number(std::string_view what) {
    T value;
    const std::string_view raw = text(sizeof value, what);
    std::memcpy(&value, raw.data(), sizeof value);
    return value;
  }

  /// u64 length and bytes.
  std::string string(std::string_view what) { return std::string(text(number<uint64_t>(what), what)); }

  /// The same of what people will be shown: refused where it is empty or would command a terminal.
  std::string name(std::string_view what);

  std::pair<std::string, GgufValue> key_value();

 private:
  GgufKind kind(const std::string& key);
  GgufValue value(GgufKind kind, const std::string& key);
  GgufArray array(const std::string& key);

  std::span<const std::byte> bytes_;
  std::string file_;
  uint64_t position_ = 0;
};

}  // namespace lathe
