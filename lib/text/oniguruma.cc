// Rewrites Oniguruma's Ruby syntax for PCRE2. Only what differs is touched; what has no equal is refused,
// since a pattern that silently means something else would give other token ids.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cctype>
#include <string>
#include <string_view>

#include "lib/base/error.h"
#include "lib/text/regex.h"

namespace lathe::text {
namespace {

// Oniguruma's \w, compared over all code points: of the other numbers (No) it takes Latin-1's only.
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";
constexpr std::string_view kHex = "0-9A-Fa-f";

bool compiles(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

class Rewriter {
 public:
  Rewriter(std::string_view pattern, const std::string& where) : pattern_(pattern), where_(where) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        escape(false);
      } else if (c == '[') {
        character_class();
      } else if (c == '(' && next_is("(?")) {
        group();
      } else if (c == '{') {
        interval();
      } else {
        copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    user_error(
        "{}: the regular expression \"{}\" uses {} at offset {}, which is not supported; expected the common "
        "ground of Oniguruma and PCRE2",
        where_, pattern_, what, at_);
  }
  bool next_is(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  void copy(size_t count) {
    out_ += pattern_.substr(at_, count);
    at_ += count;
  }
  void put(std::string_view text, size_t skip) {
    out_ += text;
    at_ += skip;
  }
  void put_class(std::string_view members, bool negated, bool in_class) {
    if (in_class && negated) refuse("a negated shorthand inside a class");
    out_ += in_class ? std::string(members) : fmt::format("[{}{}]", negated ? "^" : "", members);
    at_ += 2;
  }

  void escape(bool in_class) {
    if (at_ + 1 >= pattern_.size()) refuse("a backslash at the end");
    const char c = pattern_[at_ + 1];
    switch (c) {
      case 's':
        return put(R"(\p{White_Space})", 2);
      case 'S':
        return put(R"(\P{White_Space})", 2);
      case 'w':
      case 'W':
        return put_class(kWord, c == 'W', in_class);
      case 'h':
      case 'H':
        return put_class(kHex, c == 'H', in_class);
      case 'v':
        return put(R"(\x{0B})", 2);
      case 'p':
      case 'P':
        return property();
      case 'u':
        return code_point();
      case 'x':
        return hex();
      case 'b':
      case 'B':
        return in_class ? copy(2) : boundary(c == 'B');
      default:
        break;
    }
    constexpr std::string_view kSame = "dDtnrfaeAzZRXK123456789";
    if (std::isalnum(static_cast<unsigned char>(c)) && kSame.find(c) == std::string_view::npos) {
      refuse(fmt::format("\\{}", c));
    }
    copy(2);
  }

  void boundary(bool negated) {
    const std::string word = fmt::format("[{}]", kWord);
    const auto either = [&](std::string_view ahead_if_word, std::string_view ahead_if_not) {
      return fmt::format("(?:(?<={0}){1}|(?<!{0}){2})", word, ahead_if_word, ahead_if_not);
    };
    const std::string is = fmt::format("(?={})", word);
    const std::string is_not = fmt::format("(?!{})", word);
    put(negated ? either(is, is_not) : either(is_not, is), 2);
  }

  // \p{Han} means the Script property in Oniguruma, Script_Extensions in PCRE2.
  void property() {
    const size_t close = pattern_.find('}', at_);
    if (!pattern_.substr(at_ + 2).starts_with("{") || close == std::string_view::npos)
      refuse("\\p without braces");
    std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
    const bool caret = name.starts_with("^");
    if (caret) name.remove_prefix(1);
    const bool category = name.size() <= 2;
    const bool script = !category && compiles(fmt::format("\\p{{sc:{}}}", name));
    out_ += fmt::format("\\{}{{{}{}{}}}", pattern_[at_ + 1], caret ? "^" : "", script ? "sc:" : "", name);
    at_ = close + 1;
  }

  void code_point() {
    const std::string_view digits = pattern_.substr(std::min(at_ + 2, pattern_.size()), 4);
    if (digits.size() != 4 || digits.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos) {
      refuse("\\u without four hexadecimal digits");
    }
    put(fmt::format("\\x{{{}}}", digits), 6);
  }

  // \xHH is a byte in Oniguruma, a code point in PCRE2: the same in ASCII only.
  void hex() {
    if (pattern_.substr(at_ + 2).starts_with("{")) return copy(2);
    const std::string_view digits = pattern_.substr(std::min(at_ + 2, pattern_.size()), 2);
    if (digits.size() != 2 || digits[0] < '0' || digits[0] > '7') refuse("\\x beyond ASCII");
    copy(4);
  }

  void character_class() {
    copy(1);
    if (at_ < pattern_.size() && pattern_[at_] == '^') copy(1);
    if (at_ < pattern_.size() && pattern_[at_] == ']') copy(1);
    while (at_ < pattern_.size() && pattern_[at_] != ']') {
      if (pattern_[at_] == '\\') {
        escape(true);
      } else if (next_is("[")) {
        refuse("a class within a class");
      } else if (next_is("&&")) {
        refuse("a class intersection");
      } else {
        copy(1);
      }
    }
    if (at_ == pattern_.size()) refuse("a class without an end");
    copy(1);
  }

  // (?imx-imx:...): Ruby's m is Perl's s. A bare (?i) reaches over the alternatives that follow it in Ruby
  // only.
  void group() {
    const bool at_start = at_ == 0;
    copy(2);
    const size_t end = pattern_.find_first_not_of("imx-", at_);
    if (end == std::string_view::npos || end == at_) return;
    if (pattern_[end] != ':' && pattern_[end] != ')') return;  // what follows "(?" is not a list of options
    if (pattern_[end] == ')' && !at_start) refuse("an option without a group of its own");
    for (; at_ < end; ++at_) out_ += pattern_[at_] == 'm' ? 's' : pattern_[at_];
  }

  void interval() {
    const size_t close = pattern_.find('}', at_);
    const std::string_view inside =
        close == std::string_view::npos ? std::string_view() : pattern_.substr(at_ + 1, close - at_ - 1);
    const bool digits =
        inside.find_first_not_of("0123456789,") == std::string_view::npos && inside.size() > 1;
    if (digits && inside[0] == ',') return put(fmt::format("{{0{}}}", inside), inside.size() + 2);
    const bool counted = !inside.empty() && inside.find_first_not_of("0123456789,") == std::string_view::npos;
    if (counted && pattern_.substr(close + 1).starts_with("+")) refuse("'+' after an interval");
    if (counted && inside.find(',') == std::string_view::npos &&
        pattern_.substr(close + 1).starts_with("?")) {
      refuse("'?' after a fixed interval");
    }
    copy(counted ? inside.size() + 2 : 1);
  }

  std::string_view pattern_;
  const std::string& where_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string pcre2_from_oniguruma(std::string_view pattern, const std::string& where) {
  return Rewriter(pattern, where).run();
}

}  // namespace lathe::text
