// Text files as token rows: known rows with a fake tokenizer, errors word by word, the sampler's fixed
// choices.
#include "calib/data/token_rows.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <fstream>

#include "lib/base/error.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Every byte is one token; asks never for special tokens.
class ByteTokenizer : public Tokenizer {
 public:
  std::vector<int64_t> encode(std::string_view text, bool add_special_tokens) const override {
    EXPECT_FALSE(add_special_tokens);
    std::vector<int64_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  int64_t vocab_size() const override { return 256; }
};

class TokenRows : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              fmt::format("lathe-rows-{}-{}", ::getpid(),
                          ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  DataSource file(const std::string& name, std::string_view contents, std::string field = "text") {
    std::ofstream(folder_ / name, std::ios::binary) << contents;
    return {folder_ / name, std::move(field)};
  }
  /// The rows, ids flattened.
  std::vector<int64_t> rows(const std::vector<DataSource>& sources, int64_t length, int64_t vocab = 0) {
    const at::Tensor ids = token_rows(sources, tokenizer_, length, counts_, vocab);
    EXPECT_EQ(ids.scalar_type(), at::kLong);
    EXPECT_EQ(ids.sizes(), (at::IntArrayRef{counts_.rows, length}));
    return {ids.data_ptr<int64_t>(), ids.data_ptr<int64_t>() + ids.numel()};
  }
  std::string error(const std::vector<DataSource>& sources, int64_t length = 1, int64_t vocab = 0) {
    try {
      rows(sources, length, vocab);
    } catch (const UserError& e) {
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
      return e.what();
    }
    return "no error";
  }

  fs::path folder_;
  ByteTokenizer tokenizer_;
  RowCounts counts_;
};

TEST_F(TokenRows, JoinsDocumentsAndDropsTheRest) {
  const std::vector<DataSource> sources = {file("a.txt", "abc\n"), file("b.TXT", "de")};
  EXPECT_THAT(rows(sources, 4), ElementsAre('a', 'b', 'c', '\n'));
  EXPECT_EQ(counts_.documents, 2);
  EXPECT_EQ(counts_.tokens, 6);
  EXPECT_EQ(counts_.rows, 1);
  EXPECT_EQ(counts_.unused_tokens, 2);
  EXPECT_THAT(rows(sources, 3), ElementsAre('a', 'b', 'c', '\n', 'd', 'e'));
  EXPECT_EQ(counts_.documents, 2) << "counts start anew";
  EXPECT_TRUE(rows(sources, 7).empty());
  EXPECT_EQ(counts_.unused_tokens, 6);
}

TEST_F(TokenRows, ReadsTheChosenFieldOfEachLine) {
  const DataSource source = file(
      "a.jsonl", "{\"text\": \"no\", \"body\": \"x\\u00e9\"}\r\n\n  \n{\"body\": \"\"}\n{\"body\": \"yz\"}",
      "body");
  EXPECT_THAT(rows({source}, 1), ElementsAre('x', 0xC3, 0xA9, 'y', 'z'));
  EXPECT_EQ(counts_.documents, 3);
}

TEST_F(TokenRows, NamesTheLineOfABadObject) {
  EXPECT_THAT(error({file("a.jsonl", "{\"text\": \"a\"}\n\n{\"text\": oops}\n")}),
              AllOf(HasSubstr("a.jsonl:3:10: not valid JSON")));
  EXPECT_THAT(error({file("b.jsonl", "{\"text\": \"a\"}\n{\"content\": \"a\", \"id\": 1}\n")}),
              HasSubstr("b.jsonl:2: the object has no field 'text'; its fields are 'content' and 'id'"));
  EXPECT_THAT(error({file("c.jsonl", "{\"text\": 5}\n")}),
              HasSubstr("c.jsonl:1: field 'text': expected a string, found number"));
  EXPECT_THAT(error({file("d.jsonl", "[1]\n")}), HasSubstr("d.jsonl:1: expected a JSON object, found array"));
  EXPECT_THAT(error({file("e.jsonl", "{\"text\": \"\\ud800\"}\n")}), HasSubstr("e.jsonl:1:"));
  EXPECT_THAT(error({file("f.jsonl", "{\"text\": 1e999}\n")}), HasSubstr("f.jsonl:1: not valid JSON"));
}

TEST_F(TokenRows, NamesLineAndOffsetOfInvalidUtf8) {
  EXPECT_THAT(error({file("a.txt", "one\ntwo\nth\xff")}),
              HasSubstr("a.txt:3: invalid UTF-8 at byte offset 10 (0xff)"));
  EXPECT_THAT(error({file("b.txt", "\xc3")}), HasSubstr("b.txt:1: invalid UTF-8 at byte offset 0 (0xc3)"));
  EXPECT_THAT(error({file("c.jsonl", "{\"text\": \"a\"}\n{\"text\": \"\xed\xa0\x80\"}\n")}),
              HasSubstr("c.jsonl:2: invalid UTF-8 at byte offset 24"));
}

TEST_F(TokenRows, RefusesFilesThatGiveNoText) {
  EXPECT_THAT(error({file("a.txt", "")}), HasSubstr("a.txt: the file is empty"));
  EXPECT_THAT(error({file("b.txt", " \n\t\n")}), HasSubstr("b.txt: the file is empty"));
  EXPECT_THAT(error({file("c.jsonl", "")}), HasSubstr("c.jsonl: the file is empty"));
  EXPECT_THAT(error({file("d.jsonl", "{\"text\": \"\"}\n")}), HasSubstr("d.jsonl: the text gives no tokens"));
  EXPECT_THAT(error({{folder_ / "none.txt"}}), HasSubstr("none.txt: can't be opened"));
  EXPECT_THAT(error({}), HasSubstr("no text to read"));
}

TEST_F(TokenRows, RefusesAnUnknownKindBeforeReadingAnything) {
  const DataSource bad = file("a.txt", "\xff"), unknown = {folder_ / "x.parquet"};
  EXPECT_THAT(error({bad, unknown}), AllOf(HasSubstr("x.parquet: unknown kind of text file '.parquet'"),
                                           HasSubstr(".txt"), HasSubstr(".jsonl")));
}

TEST_F(TokenRows, RefusesIdsBeyondTheModelsVocabulary) {
  const DataSource source = file("a.txt", "az");
  EXPECT_THAT(rows({source}, 1, 'z' + 1), ElementsAre('a', 'z'));
  EXPECT_THAT(error({source}, 1, 'z'),
              AllOf(HasSubstr("a.txt"), HasSubstr("token id 122"), HasSubstr("vocab_size is 122")));
}

at::Tensor numbered_rows(int64_t count, int64_t length) {
  return at::arange(count * length, at::kLong).view({count, length});
}

std::vector<int64_t> chosen(int64_t count, int64_t samples, uint64_t seed) {
  const at::Tensor rows = sample_rows(numbered_rows(count, 2), samples, seed);
  EXPECT_TRUE(rows.select(1, 1).equal(rows.select(1, 0) + 1)) << "rows are taken whole";
  const at::Tensor numbers = (rows.select(1, 0) / 2).to(at::kLong);
  return {numbers.data_ptr<int64_t>(), numbers.data_ptr<int64_t>() + samples};
}

TEST(SampleRows, SeedZeroTakesTheFirst) { EXPECT_THAT(chosen(100, 4, 0), ElementsAre(0, 1, 2, 3)); }

// From an independent SplitMix64 and Fisher-Yates in Python.
TEST(SampleRows, OtherSeedsDrawFixedRowsInOrder) {
  EXPECT_THAT(chosen(100, 8, 1), ElementsAre(18, 40, 43, 53, 56, 61, 65, 66));
  EXPECT_THAT(chosen(100, 8, 2), ElementsAre(10, 18, 24, 33, 59, 60, 65, 77));
  EXPECT_THAT(chosen(3, 3, 7), ElementsAre(0, 1, 2));
}

TEST(SampleRows, EveryRowIsDrawnAboutEquallyOften) {
  std::vector<int> hits(10);
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    for (const int64_t row : chosen(10, 3, seed)) ++hits[static_cast<size_t>(row)];
  }
  for (const int count : hits) EXPECT_NEAR(count, 600, 100);  // 5 standard deviations
}

TEST(SampleRows, SaysHowMuchIsLacking) {
  const auto message = [](int64_t usable, int64_t samples) -> std::string {
    try {
      sample_rows(numbered_rows(usable, 512), samples, 0);
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(message(73, 128), AllOf(HasSubstr("128 samples of 512 tokens"), HasSubstr("the data gives 73"),
                                      HasSubstr("55 more (28160 tokens)"), HasSubstr("ask for 73 or fewer")));
  EXPECT_THAT(message(0, 1), AllOf(HasSubstr("the data gives 0"), HasSubstr("ask for shorter samples")));
  EXPECT_EQ(message(128, 128), "no error");
}

TEST(SampleRows, OwnsItsRows) {
  at::Tensor rows = numbered_rows(4, 2);
  const at::Tensor taken = sample_rows(rows, 2, 0);
  rows.fill_(-1);
  EXPECT_EQ(taken[1][1].item<int64_t>(), 3);
}

// The values are those of the Python package xxhash, xxh3_128_hexdigest of the little-endian int64 bytes.
TEST(IdsHash, EqualsXxh3OfTheBytes) {
  const at::Tensor ids = at::arange(6, at::kLong);
  EXPECT_EQ(ids_hash(ids), "xxh3-128:868749fa967b053818a10013572c9215");
  EXPECT_EQ(ids_hash(ids.view({2, 3})), ids_hash(ids));
  EXPECT_EQ(ids_hash(ids.view({3, 2}).t().contiguous().t()), ids_hash(ids))
      << "row-major order, not memory order";
  EXPECT_EQ(ids_hash(at::tensor({0, 1, 2, 3, 4, 6}, at::kLong)), "xxh3-128:a549b6f205e7fd1aac20a04573945e9a");
  EXPECT_EQ(ids_hash(at::empty({0}, at::kLong)), "xxh3-128:99aa06d3014798d86001c324468d497f");
}

}  // namespace
}  // namespace lathe
