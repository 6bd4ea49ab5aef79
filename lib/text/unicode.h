// Unicode as tokenizers need it: UTF-8 stepping, the character classes of the Rust standard library and
// `regex` crate, and the four normalisation forms. Tables: utf8proc (Unicode 15).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lathe::text {

/// Bytes of the code point that starts at text[at]; `text` is valid UTF-8 and at < text.size().
inline size_t char_length(std::string_view text, size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

/// Offset of the code point that ends at `at` (0 < at <= text.size()).
size_t previous_char(std::string_view text, size_t at);

/// The code point at text[at].
char32_t decode_char(std::string_view text, size_t at);

/// Appends the UTF-8 form of `c`.
void append_utf8(std::string& text, char32_t c);

/// The White_Space property: Rust's char::is_whitespace, and `\s` of both regex engines of `tokenizers`.
bool is_whitespace(char32_t c);
/// General category N: Rust's char::is_numeric.
bool is_numeric(char32_t c);
/// ASCII punctuation (symbols such as $ and + included) or general category P: the Punctuation
/// pre-tokenizer's class.
bool is_punctuation(char32_t c);
/// `\w` of Rust's `regex` crate: Alphabetic, M, Nd, Pc, Join_Control.
bool is_word(char32_t c);

enum class NormalForm { nfc, nfd, nfkc, nfkd };

/// Unicode normalisation (UAX #15), O(n log n) whatever the text (runs of combining marks included).
std::string normalize(std::string_view text, NormalForm form);

/// Rust's char::to_lowercase, one code point at a time (so no final-sigma rule).
std::string to_lowercase(std::string_view text);

}  // namespace lathe::text
