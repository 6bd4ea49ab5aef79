#include "apps/quantize/compare_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

enum class Unit { number, share, bytes };

struct KnownFigure {
  const char* name;
  Unit unit;
  bool reference;
};
constexpr KnownFigure kFigures[] = {{"kl", Unit::number, true},     {"kl_median", Unit::number, true},
                                    {"kl_p99", Unit::number, true}, {"same_top", Unit::share, true},
                                    {"ppl", Unit::number, false},   {"ppl_increase", Unit::share, true},
                                    {"size", Unit::bytes, false},   {"bits", Unit::number, false}};

std::vector<std::string> figure_names() {
  std::vector<std::string> names;
  for (const KnownFigure& figure : kFigures) names.emplace_back(figure.name);
  return names;
}

const KnownFigure* find_figure(std::string_view name) {
  const auto found =
      std::ranges::find(kFigures, name, [](const auto& figure) { return std::string_view(figure.name); });
  return found == std::end(kFigures) ? nullptr : found;
}

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

/// Without its unit a limit can be read in two ways, and one of them never fails: 2 for 2 %, 4 for 4 GB.
std::optional<double> parse_value(std::string_view text, Unit unit) {
  if (unit == Unit::bytes) {
    if (!text.empty() && text.back() >= '0' && text.back() <= '9') return std::nullopt;
    const auto bytes = parse_bytes(text);
    return bytes ? std::optional(static_cast<double>(*bytes)) : std::nullopt;
  }
  const bool percent = unit == Unit::share && text.ends_with('%');
  if (percent) text = trimmed(text.substr(0, text.size() - 1));
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  if (unit == Unit::share && !percent && std::abs(value) > 1) return std::nullopt;
  return percent ? value / 100 : value;
}

/// Escaped for text and attributes; bytes that are no UTF-8 and characters that XML 1.0 has not become
/// U+FFFD.
std::string xml_text(std::string_view text) {
  std::string safe;
  while (!text.empty()) {
    const size_t bad = invalid_utf8_offset(text).value_or(text.size());
    for (const char c : text.substr(0, bad)) {
      switch (c) {
        case '&':
          safe += "&amp;";
          break;
        case '<':
          safe += "&lt;";
          break;
        case '>':
          safe += "&gt;";
          break;
        case '"':
          safe += "&quot;";
          break;
        case '\t':
        case '\n':
        case '\r':
          safe += fmt::format("&#{};", static_cast<int>(c));
          break;
        default:
          if (static_cast<unsigned char>(c) < 0x20) {
            safe += "\xef\xbf\xbd";
          } else {
            safe += c;
          }
      }
    }
    if (bad == text.size()) break;
    safe += "\xef\xbf\xbd";
    text.remove_prefix(bad + 1);
  }
  // U+FFFE and U+FFFF are characters of UTF-8, but none of XML's.
  for (const char* none : {"\xef\xbf\xbe", "\xef\xbf\xbf"})
    for (size_t at = safe.find(none); at != std::string::npos; at = safe.find(none, at))
      safe.replace(at, 3, "\xef\xbf\xbd");
  return safe;
}

}  // namespace

bool FailCondition::holds(double found) const {
  if (!std::isfinite(found)) return true;
  switch (is) {
    case Is::above:
      return found > value;
    case Is::at_least:
      return found >= value;
    case Is::below:
      return found < value;
    case Is::at_most:
      return found <= value;
  }
  internal_error("a condition of no kind");
}

FailCondition parse_condition(std::string_view text) {
  const size_t at = text.find_first_of("<>");
  const auto refuse = [&](const std::string& expected) {
    user_error("--fail-if: expected {}, found '{}'", expected, text);
  };
  if (at == std::string_view::npos) refuse("a condition such as kl>0.05 or ppl_increase>2%");
  FailCondition condition{.text = std::string(text), .figure = std::string(trimmed(text.substr(0, at)))};
  const KnownFigure* const figure = find_figure(condition.figure);
  if (figure == nullptr)
    user_error("--fail-if: '{}': unknown figure '{}'{}; known are {}", text, condition.figure,
               did_you_mean(condition.figure, figure_names()), join_words(figure_names()));
  const bool equal = at + 1 < text.size() && text[at + 1] == '=';
  using Is = FailCondition::Is;
  condition.is = text[at] == '>' ? (equal ? Is::at_least : Is::above) : (equal ? Is::at_most : Is::below);
  const auto value = parse_value(trimmed(text.substr(at + (equal ? 2 : 1))), figure->unit);
  if (!value)
    refuse(figure->unit == Unit::bytes   ? "a size such as 4GiB after the sign"
           : figure->unit == Unit::share ? "a share of at most 1 or a percentage after the sign, 0.02 or 2%"
                                         : "a number after the sign");
  condition.value = *value;
  return condition;
}

bool needs_reference(const std::string& figure) {
  const KnownFigure* const known = find_figure(figure);
  return known != nullptr && known->reference;
}

std::string shown_figure(const std::string& figure, double value) {
  const KnownFigure* const known = find_figure(figure);
  if (known != nullptr && known->unit == Unit::share) return fmt::format("{:.4g} %", 100 * value);
  if (known != nullptr && known->unit == Unit::bytes) return human_bytes(static_cast<uint64_t>(value));
  return fmt::format("{:.5g}", value);
}

std::string junit_xml(const std::vector<CompareCheck>& checks, double seconds) {
  const auto failures =
      std::ranges::count_if(checks, [](const auto& check) { return !check.failure.empty(); });
  const std::string counts = fmt::format("tests=\"{}\" failures=\"{}\" errors=\"0\" time=\"{:.3f}\"",
                                         checks.size(), failures, seconds);
  std::string text = fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {0}>\n  <testsuite name=\"quantize compare\" "
      "{0}>\n",
      counts);
  for (const CompareCheck& check : checks) {
    text += fmt::format("    <testcase classname=\"{}\" name=\"{}\"", xml_text(check.artefact),
                        xml_text(check.condition));
    std::string inside;
    if (check.value)
      inside += fmt::format(
          "      <properties>\n        <property name=\"{}\" value=\"{}\"/>\n      </properties>\n",
          xml_text(check.figure), *check.value);
    if (!check.failure.empty())
      inside += fmt::format("      <failure message=\"{}\"/>\n", xml_text(check.failure));
    text += inside.empty() ? "/>\n" : fmt::format(">\n{}    </testcase>\n", inside);
  }
  return text + "  </testsuite>\n</testsuites>\n";
}

}  // namespace lathe
