// Text for people: nearest names, sizes, lists; and UTF-8 validation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

/// The candidate with the smallest Levenshtein distance to `name`, if it is near enough to be a likely slip
/// (at most a third of the longer name, and at least one edit allowed).
std::optional<std::string> nearest_name(std::string_view name, const std::vector<std::string>& candidates);

/// "; did you mean 'x'?" or an empty string.
std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates);

/// 1536 -> "1.5 KiB"; binary units, one decimal, bytes below 1 KiB.
std::string human_bytes(uint64_t bytes);

/// "5GB", "3.8GiB", "200 MB", "1024" -> bytes. Decimal units are powers of 1000. Nothing on a malformed text.
std::optional<uint64_t> parse_bytes(std::string_view text);

/// "a, b and c".
std::string join_words(const std::vector<std::string>& words);

/// Offset of the first byte that is not part of well-formed UTF-8 (RFC 3629), or nothing.
std::optional<size_t> invalid_utf8_offset(std::string_view text);

}  // namespace lathe
