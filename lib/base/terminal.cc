#include "lib/base/terminal.h"

#include <fmt/format.h>

namespace lathe {

std::string one_line(std::string_view text, size_t most) {
  std::string line;
  for (const char c : text.substr(0, most)) {
    if (c == '\n' || c == '\r' || c == '\t') {
      line += ' ';
    } else if (is_control(c)) {
      line += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      line += c;
    }
  }
  return text.size() > most ? line + "..." : line;
}

}  // namespace lathe
