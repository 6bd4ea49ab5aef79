// GPT-2's alphabet: each of the 256 bytes as one printable character, so that byte-level BPE works on text.
#pragma once

#include <string>
#include <string_view>

namespace lathe::text {

/// Each byte of `bytes` as its character: itself where it is printable in Latin-1, else U+0100 and up in
/// order.
std::string byte_level_encode(std::string_view bytes);

/// The bytes that `text` (valid UTF-8) stands for; characters outside the alphabet stay as they are.
std::string byte_level_decode(std::string_view text);

}  // namespace lathe::text
