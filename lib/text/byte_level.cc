#include "lib/text/byte_level.h"

#include <array>

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

}  // namespace

std::string byte_level_encode(std::string_view bytes) {
  static const std::array<std::string, 256> alphabet = make_alphabet();
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) text += alphabet[static_cast<unsigned char>(byte)];
  return text;
}

}  // namespace lathe::text
