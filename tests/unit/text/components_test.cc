// Normalizers, pre-tokenizers, added tokens and post-processors through the whole tokenizer.
#include "lib/base/error.h"
#include "lib/text/normalizer.h"
#include "lib/text/pre_tokenizer.h"
#include "lib/text/regex.h"
#include "lib/text/unicode.h"
#include "tests/unit/text/tokenizer_json.h"

namespace lathe::test {
namespace {

using Pieces = std::vector<std::string>;

Pieces split(const json& component, const std::string& text) {
  const auto pre_tokenizer =
      text::make_pre_tokenizer(text::JsonValue(component, "tokenizer.json", "pre_tokenizer"));
  Pieces pieces;
  const auto take = [&](text::Piece piece) { pieces.emplace_back(piece.text); };
  pre_tokenizer->split({text, true}, text::PieceSink(take));
  return pieces;
}

std::string normalize(const json& component, const std::string& text) {
  bool at_start = true;
  return text::make_normalizer(text::JsonValue(component, "tokenizer.json", "normalizer"))
      ->normalize(text, at_start);
}

json split_at(const json& pattern, const std::string& behavior, bool invert = false) {
  return {{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}, {"invert", invert}};
}

TEST(Normalizer, UnicodeForms) {
  const std::string text = "e\u0301\ufb01\u212b";
  EXPECT_EQ(normalize({{"type", "NFC"}}, text), "\u00e9\ufb01\u00c5");
  EXPECT_EQ(normalize({{"type", "NFD"}}, text), "e\u0301\ufb01A\u030a");
  EXPECT_EQ(normalize({{"type", "NFKC"}}, text), "\u00e9fi\u00c5");
  EXPECT_EQ(normalize({{"type", "NFKD"}}, text), "e\u0301fiA\u030a");
  EXPECT_EQ(normalize({{"type", "NFD"}}, "q\u0307\u0323"), "q\u0323\u0307");
  // U+1DF6 is a mark since Unicode 10: not so for `tokenizers`, whose tables are of Unicode 9.
  EXPECT_EQ(normalize({{"type", "NFD"}}, "\u00e9\u0301\u1df6\u0323"), "e\u0301\u0301\u1df6\u0323");
}

TEST(Normalizer, LongRunsOfMarksAreOrderedInTime) {
  std::string marks = "a";
  std::string ordered = "a";
  for (int i = 0; i < 100000; ++i) marks += "\u0301\u0323";
  for (const char* mark : {"\u0323", "\u0301"}) {
    for (int i = 0; i < 100000; ++i) ordered += mark;
  }
  EXPECT_EQ(normalize({{"type", "NFD"}}, marks), ordered);
}

TEST(Normalizer, OthersAndSequence) {
  const json spaces = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}};
  EXPECT_EQ(normalize(spaces, "a b  c"), "a▁b▁▁c");
  EXPECT_EQ(
      normalize({{"type", "Replace"}, {"pattern", {{"Regex", "\\s+"}}}, {"content", "_"}}, "a \u3000\nb"),
      "a_b");
  EXPECT_EQ(normalize({{"type", "Replace"}, {"pattern", {{"String", "."}}}, {"content", ""}}, "a.b"), "ab");
  EXPECT_EQ(normalize({{"type", "Lowercase"}}, "ÀΣİK"), "àσi\u0307k");
  EXPECT_EQ(normalize({{"type", "Strip"}, {"strip_left", true}, {"strip_right", false}}, "\u3000 a "), "a ");
  EXPECT_EQ(normalize({{"type", "Strip"}, {"strip_left", false}, {"strip_right", true}}, " a \u2003"), " a");
  EXPECT_EQ(normalize({{"type", "ByteLevel"}}, " é\n"), "ĠÃ©Ċ");
  const json sequence = {{"type", "Sequence"},
                         {"normalizers", {{{"type", "Prepend"}, {"prepend", "▁"}}, spaces}}};
  EXPECT_EQ(normalize(sequence, "a b"), "▁a▁b");
}

TEST(PreTokenizer, SplitBehaviors) {
  const json dash = {{"String", "-"}};
  const std::string text = "The-final--countdown";
  EXPECT_EQ(split(split_at(dash, "Removed"), text), (Pieces{"The", "final", "countdown"}));
  EXPECT_EQ(split(split_at(dash, "Isolated"), text), (Pieces{"The", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(split(split_at(dash, "MergedWithPrevious"), text), (Pieces{"The-", "final-", "-", "countdown"}));
  EXPECT_EQ(split(split_at(dash, "MergedWithNext"), text), (Pieces{"The", "-final", "-", "-countdown"}));
  EXPECT_EQ(split(split_at(dash, "Contiguous"), text), (Pieces{"The", "-", "final", "--", "countdown"}));
  EXPECT_EQ(split(split_at(dash, "Removed", true), text), (Pieces{"-", "-", "-"}));
}

TEST(PreTokenizer, ByteLevel) {
  const json plain = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  EXPECT_EQ(split(plain, "Hello there   dear, it's 12\n x"),
            (Pieces{"Hello", "Ġthere", "ĠĠ", "Ġdear", ",", "Ġit", "'s", "Ġ12", "Ċ", "Ġx"}));
  EXPECT_EQ(split({{"type", "ByteLevel"}, {"add_prefix_space", true}, {"use_regex", false}}, "a b"),
            (Pieces{"ĠaĠb"}));
  EXPECT_EQ(split({{"type", "ByteLevel"}, {"add_prefix_space", true}}, " a"), (Pieces{"Ġa"}));
}

TEST(PreTokenizer, Metaspace) {
  const auto metaspace = [](const char* scheme, bool cut) {
    return json{{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", scheme}, {"split", cut}};
  };
  EXPECT_EQ(split(metaspace("always", true), "Hey  you "), (Pieces{"▁Hey", "▁", "▁you", "▁"}));
  EXPECT_EQ(split(metaspace("never", true), "Hey you"), (Pieces{"Hey", "▁you"}));
  EXPECT_EQ(split(metaspace("first", false), "Hey you"), (Pieces{"▁Hey▁you"}));
  EXPECT_EQ(split(metaspace("first", false), " Hey"), (Pieces{"▁Hey"}));
}

TEST(PreTokenizer, CharacterClasses) {
  EXPECT_EQ(split({{"type", "Digits"}, {"individual_digits", true}}, "a12½"), (Pieces{"a", "1", "2", "½"}));
  EXPECT_EQ(split({{"type", "Digits"}, {"individual_digits", false}}, "a12½b"), (Pieces{"a", "12½", "b"}));
  EXPECT_EQ(split({{"type", "Punctuation"}}, "a$!。"), (Pieces{"a", "$", "!", "。"}));
  EXPECT_EQ(split({{"type", "WhitespaceSplit"}}, " a,b\u3000c "), (Pieces{"a,b", "c"}));
  EXPECT_EQ(split({{"type", "Whitespace"}}, " a_1,!b\u0301 ⓐ"), (Pieces{"a_1", ",!", "b\u0301", "ⓐ"}));
}

TEST(PreTokenizer, SequenceStreams) {
  const json sequence = {{"type", "Sequence"},
                         {"pretokenizers",
                          {{{"type", "WhitespaceSplit"}},
                           {{"type", "Digits"}, {"individual_digits", true}},
                           {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}}}}};
  EXPECT_EQ(split(sequence, "ab12 c"), (Pieces{"▁ab", "1", "2", "c"}));
}

TEST(Regex, OnigurumaMeanings) {
  const auto rewritten = [](const char* pattern) { return text::pcre2_from_oniguruma(pattern, "here"); };
  EXPECT_EQ(rewritten(R"([^\r\n\p{L}\p{N}]?\p{L}+| ?[^\s\p{L}]+|\s+(?!\S))"),
            R"([^\r\n\p{L}\p{N}]?\p{L}+| ?[^\p{White_Space}\p{L}]+|\p{White_Space}+(?!\P{White_Space}))");
  EXPECT_EQ(rewritten(R"((?i:'s|'t)(?m:.)\p{Han}\p{^Lu}a{,2}\v\h)"),
            R"((?i:'s|'t)(?s:.)\p{sc:Han}\p{^Lu}a{0,2}\x{0B}[0-9A-Fa-f])");
  for (const char* refused :
       {"[a[bc]]", "[a&&b]", "a(?i)b", "\\G", "a{1,2}+", "[\\W]", "\\p", "\\", "[a", "\\xE9", "\\u00"}) {
    EXPECT_THROW(rewritten(refused), UserError) << refused;
  }
  EXPECT_THROW(text::Regex::oniguruma("(", "here"), UserError);
}

// U+180E is no white space in Unicode, but is one to PCRE2's \s.
TEST(Regex, WhiteSpaceIsUnicodes) {
  EXPECT_EQ(split(split_at({{"Regex", "\\s"}}, "Removed"), "a\u180eb\u3000c\u0085d"),
            (Pieces{"a\u180eb", "c", "d"}));
}

TEST(Regex, EmptyMatches) {
  EXPECT_EQ(split(split_at({{"Regex", "(?=b)"}}, "Isolated"), "abéb"), (Pieces{"a", "bé", "b"}));
  EXPECT_EQ(split(split_at({{"Regex", "x*"}}, "MergedWithNext"), "aé"), (Pieces{"a", "é"}));
}

TEST(AddedTokens, LongestOfTheLeftmost) {
  json document = whole_pieces({"a"});
  document["added_tokens"] = {added_token(2, "ab"), added_token(3, "abc"), added_token(4, "bcdef")};
  EXPECT_EQ(ids_of(document, "abcdef"), (Ids{3, 0}));
  EXPECT_EQ(ids_of(document, "aababcd"), (Ids{1, 2, 3, 0}));
}

TEST(AddedTokens, StripTakesWhiteSpace) {
  json document = whole_pieces({"x", "x ", " x"});
  document["added_tokens"] = {added_token(4, "[L]", {{"lstrip", true}}),
                              added_token(5, "[R]", {{"rstrip", true}})};
  EXPECT_EQ(ids_of(document, "x \n[L] x"), (Ids{1, 4, 3}));
  EXPECT_EQ(ids_of(document, "x [R] \u3000x"), (Ids{2, 5, 1}));
  EXPECT_EQ(ids_of(document, "[R]  [L]"), (Ids{5, 4}));
  document["added_tokens"].push_back(added_token(6, " "));
  EXPECT_EQ(ids_of(document, "[R]  x"), (Ids{5, 1}));
}

TEST(AddedTokens, SingleWord) {
  json document = whole_pieces({"x", " ", "é"});
  document["added_tokens"] = {added_token(4, "ab", {{"single_word", true}})};
  EXPECT_EQ(ids_of(document, "ab ab"), (Ids{4, 2, 4}));
  EXPECT_EQ(ids_of(document, "xab"), (Ids{1, 0}));
  EXPECT_EQ(ids_of(document, "abé"), (Ids{0, 3}));
  EXPECT_EQ(ids_of(document, "ab\u0301"), (Ids{0}));
}

TEST(AddedTokens, NormalizedOnesMatchTheNormalizedText) {
  json document = whole_pieces({"yes"});
  document["normalizer"] = {{"type", "Lowercase"}};
  document["added_tokens"] = {added_token(2, "Day", {{"normalized", true}}), added_token(3, "NO")};
  EXPECT_EQ(ids_of(document, "YESdAyNOno"), (Ids{1, 2, 3, 0}));
}

TEST(AddedTokens, StretchesBetweenThemArePreTokenizedAlone) {
  json document = whole_pieces({"▁a", "b"});
  document["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}, {"split", false}};
  document["added_tokens"] = {added_token(3, "<s>")};
  EXPECT_EQ(ids_of(document, "a<s>b"), (Ids{1, 3, 2}));
  EXPECT_EQ(ids_of(document, "<s>b"), (Ids{3, 2}));
  document["normalizer"] = {{"type", "Strip"}, {"strip_left", true}, {"strip_right", false}};
  EXPECT_EQ(ids_of(document, " b"), (Ids{2}));  // no longer where the input begins
}

TEST(PostProcessor, Template) {
  json document = bpe_document({"a", "<s>", "</s>"}, {});
  const json special = {{"<s>", {{"id", "<s>"}, {"ids", {1}}, {"tokens", {"<s>"}}}},
                        {"end", {{"id", "end"}, {"ids", {2, 2}}, {"tokens", {"</s>", "</s>"}}}}};
  const json single = {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
                       {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                       {{"SpecialToken", {{"id", "end"}, {"type_id", 0}}}}};
  const json processor = {{"type", "TemplateProcessing"},
                          {"single", single},
                          {"pair", json::array()},
                          {"special_tokens", special}};
  document["post_processor"] = {{"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}}, processor}}};
  EXPECT_EQ(ids_of(document, "aa", true), (Ids{1, 0, 0, 2, 2}));
  EXPECT_EQ(ids_of(document, "aa", false), (Ids{0, 0}));
  EXPECT_EQ(ids_of(document, "", true), (Ids{1, 2, 2}));
}

}  // namespace
}  // namespace lathe::test
