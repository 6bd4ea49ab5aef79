#include "lib/text/byte_level.h"

#include <array>
#include <unordered_map>

#include "lib/text/unicode.h"

namespace lathe::text {
namespace {

std::array<std::string, 256> make_alphabet() {
  std::array<std::string, 256> alphabet;
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    append_utf8(alphabet[byte], printable ? byte : next++);
  }
  return alphabet;
}

const std::array<std::string, 256>& alphabet() {
  static const std::array<std::string, 256> characters = make_alphabet();
  return characters;
}

}  // namespace

std::string byte_level_encode(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) text += alphabet()[static_cast<unsigned char>(byte)];
  return text;
}

std::string byte_level_decode(std::string_view text) {
  static const std::unordered_map<std::string_view, char> bytes = [] {
    std::unordered_map<std::string_view, char> map;
    for (size_t byte = 0; byte < 256; ++byte) map.emplace(alphabet()[byte], static_cast<char>(byte));
    return map;
  }();
  std::string result;
  for (size_t at = 0; at < text.size();) {
    const std::string_view character = text.substr(at, char_length(text, at));
    const auto found = bytes.find(character);
    result += found != bytes.end() ? std::string_view(&found->second, 1) : character;
    at += character.size();
  }
  return result;
}

}  // namespace lathe::text
