#include <chrono>

#include "lib/base/error.h"
#include "tests/unit/text/tokenizer_json.h"

namespace lathe::test {
namespace {

TEST(Bpe, LowestRankMergesFirst) {
  const std::vector<std::string> tokens = {"a", "b", "c", "ab", "bc", "abc"};
  EXPECT_EQ(ids_of(bpe_document(tokens, {"a b", "b c"}), "abc"), (Ids{3, 2}));
  EXPECT_EQ(ids_of(bpe_document(tokens, {"b c", "a b"}), "abc"), (Ids{0, 4}));
  EXPECT_EQ(ids_of(bpe_document(tokens, {"b c", "a bc"}), "abcabc"), (Ids{5, 5}));
}

TEST(Bpe, LeftmostMergesFirstAmongEquals) {
  const json document = bpe_document({"a", "aa", "aaaa"}, {"a a", "aa aa"});
  EXPECT_EQ(ids_of(document, "aaa"), (Ids{1, 0}));
  EXPECT_EQ(ids_of(document, "aaaaaaa"), (Ids{2, 1, 0}));
}

TEST(Bpe, MergesMayBePairs) {
  json document = bpe_document({"a", " ", "a "}, {});
  document["model"]["merges"] = json::array({json::array({"a", " "})});
  EXPECT_EQ(ids_of(document, "a a"), (Ids{2, 0}));
}

TEST(Bpe, VersionLineOfMergesIsSkipped) {
  EXPECT_EQ(ids_of(bpe_document({"a", "b", "ab"}, {"#version: 0.2", "a b"}), "ab"), (Ids{2}));
}

TEST(Bpe, UnknownCharacters) {
  json document = bpe_document({"<unk>", "a"}, {});
  EXPECT_EQ(ids_of(document, "xax"), (Ids{1}));
  document["model"]["unk_token"] = "<unk>";
  EXPECT_EQ(ids_of(document, "xyaxé"), (Ids{0, 0, 1, 0, 0}));
  document["model"]["fuse_unk"] = true;
  EXPECT_EQ(ids_of(document, "xyaxé"), (Ids{0, 1, 0}));
}

TEST(Bpe, ByteFallback) {
  json document = bpe_document({"<unk>", "a", "<0xC3>", "<0xA9>", "<0x0A>"}, {});
  document["model"]["unk_token"] = "<unk>";
  EXPECT_EQ(ids_of(document, "aé\n"), (Ids{1, 0, 0}));
  document["model"]["byte_fallback"] = true;
  EXPECT_EQ(ids_of(document, "aé\n"), (Ids{1, 2, 3, 4}));
  // One byte without a token: the whole character is unknown; it waits behind bytes that follow, as in
  // `tokenizers`.
  EXPECT_EQ(ids_of(document, "è\na"), (Ids{4, 0, 1}));
}

TEST(Bpe, IgnoreMergesTakesWholePieces) {
  json document = bpe_document({"a", "b", "c", "bc", "abc"}, {"b c"});
  EXPECT_EQ(ids_of(document, "abc"), (Ids{0, 3}));
  document["model"]["ignore_merges"] = true;
  EXPECT_EQ(ids_of(document, "abc"), (Ids{4}));
}

TEST(Bpe, EmptyTextGivesNothing) { EXPECT_EQ(ids_of(bpe_document({"a"}, {}), ""), Ids{}); }

// A megabyte in one piece. A quadratic merge would need minutes; the limit is generous for slow machines.
TEST(Bpe, MegabyteWithoutSplitIsFast) {
  std::vector<std::string> tokens = {"a"};
  std::vector<std::string> merges;
  for (int level = 0; level < 12; ++level) {
    merges.push_back(tokens.back() + " " + tokens.back());
    tokens.push_back(tokens.back() + tokens.back());
  }
  const auto tokenizer = open_document(bpe_document(tokens, merges));
  const auto start = std::chrono::steady_clock::now();
  const Ids ids = tokenizer->encode(std::string(1 << 20, 'a'), false);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  EXPECT_EQ(ids, Ids(256, 12));
}

// Characters that no entry holds side by side part a text: what lies between them is encoded by itself.
TEST(Bpe, LongPiecesGiveTheIdsOfTheirIndependentParts) {
  json document =
      bpe_document({"<unk>", "a", "b", "c", "é", "ab", "bc", "abc", "éa", "cc", "bb", "abb", "<0x0A>"},
                   {"b b", "a b", "b c", "c c", "a bc", "é a", "a bb"});
  document["model"]["unk_token"] = "<unk>";
  document["model"]["fuse_unk"] = true;
  document["model"]["byte_fallback"] = true;
  const auto tokenizer = open_document(document);
  const std::vector<std::string> letters = {"a", "b", "c", "é", "x", "\n", "b", "c"};
  uint32_t state = 1;
  std::string text;
  while (text.size() < 400'000) text += letters[(state = state * 1664525 + 1013904223) >> 29];
  Ids expected;
  for (size_t begin = 0; begin < text.size();) {  // "ca" stands in no entry
    const size_t found = text.find("ca", begin);
    const size_t end = found == std::string::npos ? text.size() : found + 1;
    const Ids part = tokenizer->encode(text.substr(begin, end - begin), false);
    expected.insert(expected.end(), part.begin(), part.end());
    begin = end;
  }
  EXPECT_EQ(tokenizer->encode(text, false), expected);
}

TEST(Tokenizer, BlocksJoinToTheIdsOfTheText) {
  json document = bpe_document({"a", "b", "ab", "<s>"}, {"a b"});
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += i % 3 == 0 ? "ab" : i % 7 == 0 ? "b" : "aa";
  const auto sequence = json{{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const auto special = json{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const auto specials = json{{"<s>", {{"id", "<s>"}, {"ids", {3}}, {"tokens", {"<s>"}}}}};
  document["post_processor"] = {{"type", "TemplateProcessing"},
                                {"single", {special, sequence, special}},
                                {"pair", json::array()},
                                {"special_tokens", specials}};
  json twice = document;
  twice["post_processor"]["single"] = {sequence, special, sequence};
  json split = document;
  split["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"String", "b"}}}, {"behavior", "MergedWithNext"}, {"invert", false}};
  for (const auto& [which, least_blocks] :
       {std::pair(document, 3), std::pair(twice, 1), std::pair(split, 5)}) {
    const auto tokenizer = open_document(which);
    for (const bool with_special : {false, true}) {
      Ids joined;
      int blocks = 0;
      tokenizer->encode_in_blocks(text, with_special, [&](std::span<const int64_t> ids) {
        joined.insert(joined.end(), ids.begin(), ids.end());
        ++blocks;
      });
      EXPECT_EQ(joined, tokenizer->encode(text, with_special));
      EXPECT_GE(blocks, least_blocks);
    }
  }
}

TEST(Tokenizer, InvalidUtf8IsRefused) {
  const auto tokenizer = open_document(bpe_document({"a"}, {}));
  for (const char* text : {"a\xff", "\xc3", "\xed\xa0\x80", "\xc0\xaf"}) {
    EXPECT_THROW(tokenizer->encode(text, false), UserError) << text;
  }
}

TEST(Tokenizer, VocabSizeCountsAddedTokensOnce) {
  json document = bpe_document({"a", "b"}, {});
  document["added_tokens"] = {added_token(0, "a"), added_token(2, "<s>")};
  EXPECT_EQ(open_document(document)->vocab_size(), 3);
}

TEST(Tokenizer, FolderWithoutTokenizer) {
  const TemporaryFolder folder;
  try {
    open_tokenizer(folder.path());
    FAIL() << "no error";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find(folder.path().string()), std::string::npos) << error.what();
  }
}

TEST(Tokenizer, EmbeddedModel) {
  const auto tokenizer = open_tokenizer(std::filesystem::path(LATHE_SOURCE_DIR) / "data/models/lathe-tiny");
  EXPECT_EQ(tokenizer->vocab_size(), 4096);
  EXPECT_EQ(tokenizer->encode("Hello world, the 123 cats <|endoftext|> sat</s>.\n\n  ok", true),
            (Ids{40,  1146, 79,   1427, 12, 262,  1376, 19,  271, 1910,
                 221, 0,    3697, 1601, 83, 2921, 2221, 221, 278, 75}));
}

}  // namespace
}  // namespace lathe::test
