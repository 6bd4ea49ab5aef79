#include "lib/text/pre_tokenizer.h"

#include <map>

#include "lib/text/byte_level.h"
#include "lib/text/normalizer.h"
#include "lib/text/regex.h"
#include "lib/text/unicode.h"

namespace lathe::text {
namespace {

constexpr std::string_view kSupported =
    "Sequence, ByteLevel, Split, Digits, Metaspace, Punctuation, Whitespace, WhitespaceSplit";

/// Passes `span` of `piece` on; nothing where it is empty.
void pass_on(Piece piece, const Span& span, const PieceSink& sink) {
  if (span.begin == span.end) return;
  sink({piece.text.substr(span.begin, span.end - span.begin), piece.at_start && span.begin == 0});
}

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<PreTokenizer>> members) : members_(std::move(members)) {}
  void split(Piece piece, const PieceSink& sink) const override { run(0, piece, sink); }

 private:
  void run(size_t stage, Piece piece, const PieceSink& sink) const {
    if (stage == members_.size()) return sink(piece);
    const auto next = [&](Piece part) { run(stage + 1, part, sink); };
    members_[stage]->split(piece, PieceSink(next));
  }
  std::vector<std::unique_ptr<PreTokenizer>> members_;
};

class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, bool use_regex)
      : add_prefix_space_(add_prefix_space), use_regex_(use_regex) {}

  void split(Piece piece, const PieceSink& sink) const override {
    std::string prefixed;
    if (add_prefix_space_ && !piece.text.starts_with(' ')) {
      prefixed = ' ' + std::string(piece.text);
      piece.text = prefixed;
    }
    const auto encode = [&](Piece part) {
      const std::string encoded = byte_level_encode(part.text);
      sink({encoded, part.at_start});
    };
    if (use_regex_) {
      const auto take = [&](const Span& span) { pass_on(piece, span, PieceSink(encode)); };
      gpt2_words().find_matches(piece.text, SpanSink(take));
    } else {
      encode(piece);
    }
  }

 private:
  static const Regex& gpt2_words() {
    static const Regex regex =
        Regex::oniguruma(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
                         "GPT-2's expression");
    return regex;
  }
  bool add_prefix_space_;
  bool use_regex_;
};

class RegexSplit : public PreTokenizer {
 public:
  RegexSplit(Regex regex, SplitBehavior behavior, bool invert)
      : regex_(std::move(regex)), behavior_(behavior), invert_(invert) {}
  void split(Piece piece, const PieceSink& sink) const override {
    const auto take = [&](const Span& span) { pass_on(piece, span, sink); };
    SpanJoiner joiner(behavior_, SpanSink(take));
    const auto add = [&](const Span& span) { joiner.add({span.begin, span.end, span.is_match != invert_}); };
    regex_.find_matches(piece.text, SpanSink(add));
    joiner.finish();
  }

 private:
  Regex regex_;
  SplitBehavior behavior_;
  bool invert_;
};

/// Digits, Punctuation and WhitespaceSplit: split at the code points of a class.
class CharSplit : public PreTokenizer {
 public:
  CharSplit(bool (*predicate)(char32_t), SplitBehavior behavior)
      : predicate_(predicate), behavior_(behavior) {}
  void split(Piece piece, const PieceSink& sink) const override {
    const auto take = [&](const Span& span) { pass_on(piece, span, sink); };
    SpanJoiner joiner(behavior_, SpanSink(take));
    const auto add = [&](const Span& span) { joiner.add(span); };
    find_matches(piece.text, predicate_, SpanSink(add));
    joiner.finish();
  }

 private:
  bool (*predicate_)(char32_t);
  SplitBehavior behavior_;
};

/// `\w+|[^\w\s]+`, the rest dropped; in Rust's `regex` crate, whose \w is not Oniguruma's.
class Whitespace : public PreTokenizer {
 public:
  void split(Piece piece, const PieceSink& sink) const override {
    const std::string_view text = piece.text;
    for (size_t begin = 0; begin < text.size();) {
      const Kind kind = kind_of(text, begin);
      size_t end = begin;
      while (end < text.size() && kind_of(text, end) == kind) end += char_length(text, end);
      if (kind != Kind::space) sink({text.substr(begin, end - begin), piece.at_start && begin == 0});
      begin = end;
    }
  }

 private:
  enum class Kind { word, space, other };
  static Kind kind_of(std::string_view text, size_t at) {
    const char32_t c = decode_char(text, at);
    return is_word(c) ? Kind::word : is_whitespace(c) ? Kind::space : Kind::other;
  }
};

class Metaspace : public PreTokenizer {
 public:
  enum class Prepend { first, never, always };
  Metaspace(std::string replacement, Prepend prepend, bool split)
      : replacement_(std::move(replacement)), prepend_(prepend), split_(split) {}

  void split(Piece piece, const PieceSink& sink) const override {
    std::string text;
    text.reserve(piece.text.size() + replacement_.size());
    const bool marked = piece.text.starts_with(' ') || piece.text.starts_with(replacement_);
    if (!marked && (prepend_ == Prepend::always || (prepend_ == Prepend::first && piece.at_start))) {
      text = replacement_;
    }
    for (const char c : piece.text) {
      if (c == ' ') {
        text += replacement_;
      } else {
        text += c;
      }
    }
    if (!split_) return sink({text, piece.at_start});
    // Each replacement goes with what follows it: MergedWithNext.
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find(replacement_, begin + 1), text.size());
      sink({std::string_view(text).substr(begin, end - begin), piece.at_start && begin == 0});
      begin = end;
    }
  }

 private:
  std::string replacement_;
  Prepend prepend_;
  bool split_;
};

std::unique_ptr<PreTokenizer> make(const JsonValue& json, int depth);

template <class Value>
Value one_of(const JsonValue& json, const std::map<std::string, Value, std::less<>>& values) {
  const auto found = values.find(json.text());
  if (found != values.end()) return found->second;
  std::string names;
  for (const auto& [name, value] : values) names += (names.empty() ? "" : ", ") + name;
  json.expected("one of " + names);
}

SplitBehavior behavior_of(const JsonValue& json) {
  return one_of<SplitBehavior>(json, {{"Removed", SplitBehavior::removed},
                                      {"Isolated", SplitBehavior::isolated},
                                      {"MergedWithPrevious", SplitBehavior::merged_with_previous},
                                      {"MergedWithNext", SplitBehavior::merged_with_next},
                                      {"Contiguous", SplitBehavior::contiguous}});
}

std::unique_ptr<PreTokenizer> make_sequence(const JsonValue& json, int depth) {
  if (depth >= kDeepestSequence) json.expected("a Sequence at most 16 deep");
  std::vector<std::unique_ptr<PreTokenizer>> members;
  for (const JsonValue& member : json.at("pretokenizers").items()) members.push_back(make(member, depth + 1));
  return std::make_unique<Sequence>(std::move(members));
}

std::unique_ptr<PreTokenizer> make_metaspace(const JsonValue& json) {
  using Prepend = Metaspace::Prepend;
  const std::string& replacement = json.at("replacement").text();
  if (replacement.empty() || char_length(replacement, 0) != replacement.size()) {
    json.at("replacement").expected("one character");
  }
  Prepend prepend = Prepend::always;
  if (json.has("prepend_scheme")) {
    prepend =
        one_of<Prepend>(json.at("prepend_scheme"),
                        {{"first", Prepend::first}, {"never", Prepend::never}, {"always", Prepend::always}});
  }
  // The older spelling; `tokenizers` refuses the two where they disagree.
  if (!json.boolean_or("add_prefix_space", true) && prepend != Prepend::never) {
    json.at("add_prefix_space").expected("prepend_scheme \"never\" beside add_prefix_space false");
  }
  return std::make_unique<Metaspace>(replacement, prepend, json.boolean_or("split", true));
}

std::unique_ptr<PreTokenizer> make(const JsonValue& json, int depth) {
  const std::string& type = json.at("type").text();
  if (type == "Sequence") return make_sequence(json, depth);
  if (type == "ByteLevel") {
    return std::make_unique<ByteLevel>(json.at("add_prefix_space").boolean(),
                                       json.boolean_or("use_regex", true));
  }
  if (type == "Split") {
    return std::make_unique<RegexSplit>(regex_of(json.at("pattern")), behavior_of(json.at("behavior")),
                                        json.at("invert").boolean());
  }
  if (type == "Digits") {
    const bool individual = json.at("individual_digits").boolean();
    return std::make_unique<CharSplit>(&is_numeric,
                                       individual ? SplitBehavior::isolated : SplitBehavior::contiguous);
  }
  if (type == "Metaspace") return make_metaspace(json);
  if (type == "Punctuation") {
    const auto behavior = json.has("behavior") ? behavior_of(json.at("behavior")) : SplitBehavior::isolated;
    return std::make_unique<CharSplit>(&is_punctuation, behavior);
  }
  if (type == "Whitespace") return std::make_unique<Whitespace>();
  if (type == "WhitespaceSplit") return std::make_unique<CharSplit>(&is_whitespace, SplitBehavior::removed);
  json.unsupported(type, kSupported);
}

}  // namespace

std::unique_ptr<PreTokenizer> make_pre_tokenizer(const JsonValue& json) {
  return json.is_null() ? nullptr : make(json, 0);
}

}  // namespace lathe::text
