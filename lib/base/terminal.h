// Text from files nobody vouches for, on its way to a terminal.
#pragma once

#include <string>
#include <string_view>

namespace lathe {

/// Would a terminal obey it instead of showing it?
constexpr bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }

/// Line breaks and tabs become spaces, other control characters "\x1b" and the like; cut after `most` bytes.
std::string one_line(std::string_view text, size_t most = 4096);

}  // namespace lathe
