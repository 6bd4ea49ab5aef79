#include "lib/text/normalizer.h"

#include <map>

#include "lib/text/byte_level.h"
#include "lib/text/regex.h"
#include "lib/text/unicode.h"

namespace lathe::text {
namespace {

constexpr std::string_view kSupported =
    "Sequence, NFC, NFD, NFKC, NFKD, Prepend, Replace, Lowercase, Strip, ByteLevel";

class Sequence : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Normalizer>> members) : members_(std::move(members)) {}
  std::string normalize(std::string text, bool& at_start) const override {
    for (const auto& member : members_) text = member->normalize(std::move(text), at_start);
    return text;
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> members_;
};

class UnicodeForm : public Normalizer {
 public:
  explicit UnicodeForm(NormalForm form) : form_(form) {}
  std::string normalize(std::string text, bool&) const override { return text::normalize(text, form_); }

 private:
  NormalForm form_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  std::string normalize(std::string text, bool&) const override {
    return text.empty() ? text : prefix_ + text;
  }

 private:
  std::string prefix_;
};

class Replace : public Normalizer {
 public:
  Replace(Regex pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
  std::string normalize(std::string text, bool& at_start) const override {
    std::string result;
    result.reserve(text.size());
    const auto take = [&](const Span& span) {
      if (span.is_match && span.begin == 0 && span.end > 0 && content_.empty()) at_start = false;
      result += span.is_match ? std::string_view(content_)
                              : std::string_view(text).substr(span.begin, span.end - span.begin);
    };
    pattern_.find_matches(text, SpanSink(take));
    return result;
  }

 private:
  Regex pattern_;
  std::string content_;
};

class Lowercase : public Normalizer {
 public:
  std::string normalize(std::string text, bool&) const override { return to_lowercase(text); }
};

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  std::string normalize(std::string text, bool& at_start) const override {
    size_t begin = 0;
    size_t end = text.size();
    while (left_ && begin < end && is_whitespace(decode_char(text, begin))) begin += char_length(text, begin);
    while (right_ && end > begin && is_whitespace(decode_char(text, previous_char(text, end)))) {
      end = previous_char(text, end);
    }
    if (begin > 0) at_start = false;
    return text.substr(begin, end - begin);
  }

 private:
  bool left_;
  bool right_;
};

class ByteLevel : public Normalizer {
 public:
  std::string normalize(std::string text, bool&) const override { return byte_level_encode(text); }
};

std::unique_ptr<Normalizer> make(const JsonValue& json, int depth);

std::unique_ptr<Normalizer> make_sequence(const JsonValue& json, int depth) {
  if (depth >= kDeepestSequence) json.expected("a Sequence at most 16 deep");
  std::vector<std::unique_ptr<Normalizer>> members;
  for (const JsonValue& member : json.at("normalizers").items()) members.push_back(make(member, depth + 1));
  return std::make_unique<Sequence>(std::move(members));
}

std::unique_ptr<Normalizer> make(const JsonValue& json, int depth) {
  static const std::map<std::string, NormalForm, std::less<>> kForms = {{"NFC", NormalForm::nfc},
                                                                        {"NFD", NormalForm::nfd},
                                                                        {"NFKC", NormalForm::nfkc},
                                                                        {"NFKD", NormalForm::nfkd}};
  const std::string& type = json.at("type").text();
  if (type == "Sequence") return make_sequence(json, depth);
  if (const auto form = kForms.find(type); form != kForms.end())
    return std::make_unique<UnicodeForm>(form->second);
  if (type == "Prepend") return std::make_unique<Prepend>(json.at("prepend").text());
  if (type == "Replace") {
    return std::make_unique<Replace>(regex_of(json.at("pattern")), json.at("content").text());
  }
  if (type == "Lowercase") return std::make_unique<Lowercase>();
  if (type == "Strip") {
    return std::make_unique<Strip>(json.at("strip_left").boolean(), json.at("strip_right").boolean());
  }
  if (type == "ByteLevel") return std::make_unique<ByteLevel>();
  json.unsupported(type, kSupported);
}

}  // namespace

std::unique_ptr<Normalizer> make_normalizer(const JsonValue& json) {
  return json.is_null() ? nullptr : make(json, 0);
}

}  // namespace lathe::text
