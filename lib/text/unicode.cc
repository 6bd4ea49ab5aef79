#include "lib/text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "lib/base/error.h"
#include "lib/text/older_unicode.h"

namespace lathe::text {
namespace {

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

bool is_ascii(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

int combining_class(utf8proc_int32_t c) {
  return static_cast<int>(utf8proc_get_property(c)->combining_class);
}

void append_decomposed(std::vector<utf8proc_int32_t>& out, char32_t c, utf8proc_option_t options) {
  constexpr size_t kLongest = 32;  // the longest compatibility decomposition of one code point has 18
  const size_t size = out.size();
  out.resize(size + kLongest);
  int boundary = 0;
  const auto written = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), out.data() + size, kLongest,
                                               options, &boundary);
  LATHE_ASSERT(written >= 0 && written <= static_cast<utf8proc_ssize_t>(kLongest),
               "decomposition of U+{:04X}", static_cast<uint32_t>(c));
  out.resize(size + static_cast<size_t>(written));
}

// Canonical ordering. utf8proc's own is an insertion sort, quadratic in a long run of marks.
void order_marks(std::vector<utf8proc_int32_t>& text) {
  const auto is_starter = [](utf8proc_int32_t c) { return combining_class(c) == 0; };
  auto run = text.begin();
  while ((run = std::find_if_not(run, text.end(), is_starter)) != text.end()) {
    const auto end = std::find_if(run, text.end(), is_starter);
    std::stable_sort(run, end, [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    run = end;
  }
}

void append_normalized(std::string& result, std::string_view text, NormalForm form) {
  const bool compatible = form == NormalForm::nfkc || form == NormalForm::nfkd;
  const bool compose = form == NormalForm::nfc || form == NormalForm::nfkc;
  const int options = UTF8PROC_DECOMPOSE | UTF8PROC_STABLE | (compatible ? UTF8PROC_COMPAT : 0);
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size() + 32);
  for (size_t at = 0; at < text.size(); at += char_length(text, at)) {
    const char32_t c = decode_char(text, at);
    if (c < 0x80) {
      points.push_back(static_cast<utf8proc_int32_t>(c));
    } else {
      append_decomposed(points, c, static_cast<utf8proc_option_t>(options));
    }
  }
  order_marks(points);
  if (compose && !points.empty()) {
    const auto size =
        utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()),
                                 static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    LATHE_ASSERT(size >= 0, "composition failed with {}", size);
    points.resize(static_cast<size_t>(size));
  }
  for (const auto c : points) append_utf8(result, static_cast<char32_t>(c));
}

}  // namespace

size_t previous_char(std::string_view text, size_t at) {
  do {
    --at;
  } while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

char32_t decode_char(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  switch (char_length(text, at)) {
    case 1:
      return byte(0);
    case 2:
      return (byte(0) & 0x1Fu) << 6 | (byte(1) & 0x3Fu);
    case 3:
      return (byte(0) & 0x0Fu) << 12 | (byte(1) & 0x3Fu) << 6 | (byte(2) & 0x3Fu);
    default:
      return (byte(0) & 0x07u) << 18 | (byte(1) & 0x3Fu) << 12 | (byte(2) & 0x3Fu) << 6 | (byte(3) & 0x3Fu);
  }
}

void append_utf8(std::string& text, char32_t c) {
  std::array<utf8proc_uint8_t, 4> bytes{};
  const auto count = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes.data());
  text.append(reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(count));
}

bool is_whitespace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_numeric(char32_t c) {
  const auto kind = category(c);
  return kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO;
}

bool is_punctuation(char32_t c) {
  if (c < 0x80)
    return c > 0x20 && c < 0x7F && !(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
  const auto kind = category(c);
  return (kind >= UTF8PROC_CATEGORY_PC && kind <= UTF8PROC_CATEGORY_PO) != punctuation_differs(c);
}

bool is_word(char32_t c) {
  const auto kind = category(c);
  if (kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_NL) return true;  // L, M, Nd, Nl
  if (kind == UTF8PROC_CATEGORY_PC || c == 0x200C || c == 0x200D) return true;
  // The alphabetic symbols: circled, squared and negative Latin letters.
  return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
         (c >= 0x1F170 && c <= 0x1F189);
}

std::string normalize(std::string_view text, NormalForm form) {
  if (is_ascii(text)) return std::string(text);
  std::string result;
  result.reserve(text.size());
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t next = at + char_length(text, at);
    // As a letter that nothing composes with it also stops reordering and composition across it.
    if (next - at > 1 && is_inert_in_normalization(decode_char(text, at))) {
      append_normalized(result, text.substr(begin, at - begin), form);
      result += text.substr(at, next - at);
      begin = next;
    }
    at = next;
  }
  append_normalized(result, text.substr(begin), form);
  return result;
}

std::string to_lowercase(std::string_view text) {
  constexpr char32_t kDottedCapitalI = 0x130;  // the one letter whose lower case has two code points
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size(); at += char_length(text, at)) {
    const char32_t c = decode_char(text, at);
    if (c == kDottedCapitalI) {
      result += "i\u0307";
    } else {
      append_utf8(result, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
  }
  return result;
}

}  // namespace lathe::text
