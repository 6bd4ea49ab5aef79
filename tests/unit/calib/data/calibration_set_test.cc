// From files to ids: packing, documents, mixes, counts, hashes, and dumps that read back.
#include "calib/data/calibration_set.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <regex>

#include "calib/data/ids_file.h"
#include "calib/data/reading_limit.h"
#include "calib/data/token_rows.h"
#include "lib/base/process_memory.h"
#include "lib/tensor/block_allocator.h"
#include "tests/unit/calib/data/data_files.h"

namespace lathe {
namespace {

using test::Ids;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class CalibrationSets : public test::DataFiles {
 protected:
  CalibrationSet build(const std::vector<DataSource>& sources, const SampleOptions& options) const {
    CalibrationSet set = build_calibration_set(sources, options, encoder_);
    EXPECT_EQ(set.ids.scalar_type(), at::kLong);
    EXPECT_TRUE(set.ids.is_contiguous());
    return set;
  }
  static SampleOptions pack(int64_t samples, int64_t length, uint64_t seed = 0) {
    return {.samples = samples, .seq_len = length, .seed = seed, .packing = Packing::pack};
  }
  static SampleOptions by_document(int64_t samples, int64_t length, uint64_t seed = 0) {
    return {.samples = samples, .seq_len = length, .seed = seed, .packing = Packing::document};
  }
  /// The samples as text, padding (id 0) as '.'.
  static std::vector<std::string> samples(const CalibrationSet& set) {
    std::vector<std::string> rows;
    for (int64_t i = 0; i < set.ids.size(0); ++i) {
      std::string& row = rows.emplace_back();
      for (int64_t j = 0; j < set.ids.size(1); ++j) {
        const auto id = set.ids[i][j].item<int64_t>();
        row += id == 0 ? '.' : static_cast<char>(id);
      }
    }
    return rows;
  }
  std::string build_error(const std::vector<DataSource>& sources, const SampleOptions& options) const {
    return error_of([&] { build(sources, options); });
  }
};

TEST_F(CalibrationSets, PackJoinsDocumentsAndDropsTheRest) {
  const std::vector<DataSource> sources = {file("a.txt", "abcd\n"), file("b.jsonl", R"({"text": "ef"})"
                                                                                    "\n"
                                                                                    R"({"text": "ghi"})")};
  const CalibrationSet set = build(sources, pack(2, 4));
  EXPECT_THAT(samples(set), ElementsAre("abcd", "\nefg"));
  EXPECT_THAT(set.lengths, IsEmpty());
  EXPECT_EQ(set.usable, 2);
  EXPECT_EQ(set.unused_tokens, 2);
  EXPECT_EQ(set.tokens(), 8);
  ASSERT_EQ(set.sources.size(), 2u);
  const SourceCounts &a = set.sources[0], &b = set.sources[1];
  EXPECT_EQ(std::tie(a.kind, a.documents, a.tokens, a.usable, a.taken), std::make_tuple("text", 1, 5, 2, 2))
      << "the second sample begins in it";
  EXPECT_EQ(std::tie(b.kind, b.documents, b.tokens, b.usable, b.taken), std::make_tuple("jsonl", 2, 5, 0, 0));
  // xxhsum -H2 of "abcd\n", by libxxhash.
  EXPECT_EQ(a.file_hash, "xxh3-128:ad3e38cc4333ed1b742b20a1b224a05e");
}

TEST_F(CalibrationSets, DocumentsArePaddedAndCutOff) {
  const DataSource source = file("a.jsonl",
                                 "{\"text\": \"abcdef\"}\n{\"text\": \"gh\"}\n{\"text\": \"i\"}\n"
                                 "{\"text\": \"\"}\n{\"text\": \"jkl\"}\n");
  encoder_.min_tokens = 2;
  const CalibrationSet set = build({source}, by_document(3, 4));
  EXPECT_THAT(samples(set), ElementsAre("abcd", "gh..", "jkl."));
  EXPECT_THAT(set.lengths, ElementsAre(4, 2, 3));
  EXPECT_EQ(set.tokens(), 9);
  const SourceCounts& counts = set.sources[0];
  EXPECT_EQ(counts.documents, 5);
  EXPECT_EQ(counts.dropped, 2);
  EXPECT_EQ(counts.truncated, 1);
  EXPECT_EQ(counts.tokens, 11);
  EXPECT_EQ(counts.usable, 3);
  EXPECT_EQ(set.unused_tokens, 0);
}

TEST_F(CalibrationSets, FullDocumentsHaveNoLengths) {
  const DataSource source = file("a.jsonl", "{\"text\": \"abc\"}\n{\"text\": \"defg\"}\n");
  const CalibrationSet cut = build({source}, by_document(2, 3));
  EXPECT_THAT(samples(cut), ElementsAre("abc", "def"));
  EXPECT_THAT(cut.lengths, IsEmpty());
  EXPECT_EQ(build({source}, by_document(1, 100)).ids.size(1), 3) << "no wider than the longest sample";
}

TEST_F(CalibrationSets, SpecialTokensStandAroundEachText) {
  const DataSource source = file("a.jsonl", "{\"text\": \"ab\"}\n{\"text\": \"c\"}\n[100]\n");
  encoder_.special_tokens = true;
  EXPECT_THAT(samples(build({source}, pack(1, 8))), ElementsAre("\1ab\2\1c\2d"))
      << "ids are taken as they are";
}

TEST_F(CalibrationSets, BosBeginsEverySampleOnce) {
  // Conversations and ids are not text: their own beginning is what the model is given.
  const DataSource source = file("a.jsonl", "{\"text\": \"abcde\"}\n[102, 103]\n{\"text\": \"hi\"}\n");
  SampleOptions options = pack(3, 3);
  options.bos = 1;
  const CalibrationSet set = build({source}, options);
  EXPECT_THAT(samples(set), ElementsAre("\1ab", "\1cd", "\1ef"));
  EXPECT_EQ(set.usable, 4) << "the last one begins with an id of a file";
  EXPECT_EQ(set.with_bos, 3);
  EXPECT_EQ(set.unused_tokens, 0);
  options.samples = 4;
  EXPECT_EQ(samples(build({source}, options))[3], "ghi");

  encoder_.special_tokens = true;  // BOS stands in front of the text already
  options.samples = 2;
  EXPECT_THAT(samples(build({file("b.txt", "abcd")}, options)), ElementsAre("\1ab", "\1cd"));
}

TEST_F(CalibrationSets, BosBeginsDocumentsAndCountsInTheirLength) {
  const DataSource source = file("a.jsonl", "{\"text\": \"abcd\"}\n{\"text\": \"ef\"}\n[103, 104]\n");
  SampleOptions options = by_document(3, 4);
  options.bos = 1;
  const CalibrationSet set = build({source}, options);
  EXPECT_THAT(samples(set), ElementsAre("\1abc", "\1ef.", "gh.."));
  EXPECT_THAT(set.lengths, ElementsAre(4, 3, 2));
  EXPECT_EQ(set.sources[0].truncated, 1);
  EXPECT_EQ(set.with_bos, 2);
  encoder_.vocab_size = 256;
  options.bos = 256;
  EXPECT_THAT(build_error({source}, options),
              HasSubstr("BOS is token 256, but the model's vocab_size is 256"));
}

TEST_F(CalibrationSets, MinTokensDropsFromPackedTextToo) {
  const DataSource source = file("a.jsonl", "{\"text\": \"ab\"}\n{\"text\": \"c\"}\n{\"text\": \"de\"}\n");
  encoder_.min_tokens = 2;
  const CalibrationSet set = build({source}, pack(2, 2));
  EXPECT_THAT(samples(set), ElementsAre("ab", "de"));
  EXPECT_EQ(set.sources[0].dropped, 1);
}

TEST_F(CalibrationSets, AMixTakesCountsAndShares) {
  const std::string long_text(100, 'a');
  std::vector<DataSource> sources = {file("a.txt", long_text), file("b.txt", std::string(100, 'b')),
                                     file("c.txt", std::string(100, 'c'))};
  sources[0].weight = 3;
  sources[1].samples = 2;  // c: weight 1
  const CalibrationSet set = build(sources, pack(10, 4));
  EXPECT_EQ(set.sources[0].taken, 6);
  EXPECT_EQ(set.sources[1].taken, 2);
  EXPECT_EQ(set.sources[2].taken, 2);
  EXPECT_EQ(set.sources[0].usable, 25);
  EXPECT_EQ(set.usable, 75);
  EXPECT_THAT(samples(set),
              ElementsAre("aaaa", "aaaa", "aaaa", "aaaa", "aaaa", "aaaa", "bbbb", "bbbb", "cccc", "cccc"));
}

TEST_F(CalibrationSets, SourcesOfAMixAreCutOnTheirOwn) {
  std::vector<DataSource> sources = {file("a.txt", "aaaaaa"), file("b.txt", "bbbbbb")};
  EXPECT_THAT(samples(build(sources, pack(3, 4))), ElementsAre("aaaa", "aabb", "bbbb"));
  sources[0].weight = sources[1].weight = 1;
  const CalibrationSet set = build(sources, pack(2, 4));
  EXPECT_THAT(samples(set), ElementsAre("aaaa", "bbbb"));
  EXPECT_EQ(set.unused_tokens, 4);
}

TEST_F(CalibrationSets, SaysHowMuchIsLacking) {
  const DataSource source = file("a.txt", std::string(73 * 4 + 3, 'x'));
  EXPECT_THAT(build_error({source}, pack(128, 4)),
              AllOf(HasSubstr("a.txt: too little text: 128 samples of 4 tokens were asked for"),
                    HasSubstr("the data gives 73"), HasSubstr("add text for 55 more (220 tokens)"),
                    HasSubstr("ask for 73 or fewer")));
  EXPECT_THAT(build_error({source}, pack(1, 1000)),
              AllOf(HasSubstr("the data gives 0"), HasSubstr("ask for shorter samples")));
  EXPECT_THAT(build_error({source}, by_document(2, 4)),
              HasSubstr("2 samples (one a document) were asked for, the data gives 1; add 1 more documents"));
  EXPECT_THAT(build_error({file("b.jsonl", "{\"text\": \"\"}\n")}, pack(1, 1)),
              HasSubstr("the data gives 0"));
  std::vector<DataSource> mix = {source, file("c.txt", "x")};
  mix[0].weight = 1;
  EXPECT_THAT(build_error(mix, pack(4, 4)), HasSubstr("c.txt: too little text: 2 samples"));
  mix[0].samples = 5;
  EXPECT_THAT(build_error(mix, pack(4, 4)), HasSubstr("add up to 5"));
  EXPECT_THAT(build_error({}, pack(1, 1)), HasSubstr("no calibration data"));
}

TEST_F(CalibrationSets, RefusesAnUnknownKindBeforeReadingAnything) {
  const DataSource bad = file("a.txt", "\xff"), unknown = {.path = folder_ / "x.csv"};
  EXPECT_THAT(build_error({bad, unknown}, pack(1, 1)), HasSubstr("x.csv: unknown kind"));
}

TEST_F(CalibrationSets, SeedsDrawFromEachSource) {
  std::string lines;
  for (char c = 'a'; c <= 'z'; ++c) lines += std::string("{\"text\": \"") + c + "\"}\n";
  std::vector<DataSource> mix = {file("a.jsonl", lines), file("b.jsonl", lines)};
  mix[0].weight = mix[1].weight = 1;
  const CalibrationSet set = build(mix, by_document(10, 1, 42));
  const auto rows = samples(set);
  EXPECT_TRUE(std::is_sorted(rows.begin(), rows.begin() + 5));
  EXPECT_NE(std::vector(rows.begin(), rows.begin() + 5), std::vector(rows.begin() + 5, rows.end()))
      << "two equal files give different samples";
  EXPECT_TRUE(build(mix, by_document(10, 1, 42)).ids.equal(set.ids));
  EXPECT_FALSE(build(mix, by_document(10, 1, 43)).ids.equal(set.ids));
}

TEST_F(CalibrationSets, TokensHaveTheWeightOfTheirSource) {
  std::vector<DataSource> sources = {file("a.txt", "abcde"), file("b.txt", "fgh"), file("c.txt", "ijkl")};
  EXPECT_FALSE(build(sources, pack(3, 4)).token_weights.defined());
  sources[1].token_weight = 2.5;
  SampleOptions options = pack(3, 4);
  const CalibrationSet set = build(sources, options);
  EXPECT_TRUE(set.token_weights.equal(
      at::tensor(std::vector<float>{1, 1, 1, 1, 1, 2.5F, 2.5F, 2.5F, 1, 1, 1, 1}).view({3, 4})));
  EXPECT_NE(ids_hash(set.ids, {}, set.token_weights), ids_hash(set.ids));
  options.bos = 1;  // as what follows it
  EXPECT_TRUE(
      build(sources, options)
          .token_weights.equal(
              at::tensor(std::vector<float>{1, 1, 1, 1, 1, 1, 1, 2.5F, 2.5F, 2.5F, 2.5F, 1}).view({3, 4})));

  // A dump keeps them, and a source's weight multiplies those of its file.
  write_ids_file(folder_ / "d.safetensors", set);
  DataSource dump{.path = folder_ / "d.safetensors"};
  EXPECT_TRUE(build({dump}, pack(3, 4)).token_weights.equal(set.token_weights));
  dump.token_weight = 2;
  EXPECT_TRUE(build({dump}, pack(3, 4)).token_weights.equal(set.token_weights * 2));
  dump.token_weight = 1e6;  // what could not be fed back from a dump is not made
  EXPECT_THAT(error_of([&] { build({dump}, pack(3, 4)); }),
              HasSubstr("token_weight 1e+06 times the file's own 2.5"));
  EXPECT_THAT(error_of([&] { write_ids_file(folder_ / "d.npy", set); }), HasSubstr("their tokens' weights"));
}

TEST_F(CalibrationSets, PaddingOnTheLeftIsNoPartOfASample) {
  const auto rows = [&](const char* name, const char* lines) { return file(name, lines); };
  const DataSource plain = rows("a.jsonl", "[5, 6, 7]\n[8]\n"),
                   left = rows("b.jsonl",
                               "{\"input_ids\": [5, 6, 7], \"attention_mask\": [1, 1, 1]}\n"
                               "{\"input_ids\": [0, 0, 8], \"attention_mask\": [0, 0, 1]}\n");
  const CalibrationSet set = build({left}, by_document(2, 8)), same = build({plain}, by_document(2, 8));
  EXPECT_TRUE(set.ids.equal(same.ids));
  EXPECT_EQ(ids_hash(set.ids, set.lengths), ids_hash(same.ids, same.lengths));
  EXPECT_THAT(set.lengths, ElementsAre(3, 1));
  EXPECT_TRUE(build({left}, pack(2, 2)).ids.equal(build({plain}, pack(2, 2)).ids));
}

TEST_F(CalibrationSets, TokensOfWeight0AreContextAlone) {
  const CalibrationSet ids = build({file("a.jsonl", "[5, 6, 7]\n[8, 9]\n")}, by_document(2, 3));
  CalibrationSet weighted = ids;
  weighted.token_weights = at::tensor({0.0F, 1.0F, 2.0F, 0.0F, 1.0F, 1.0F}).view({2, 3});
  write_ids_file(folder_ / "w.safetensors", weighted);
  const DataSource source{.path = folder_ / "w.safetensors"};
  SampleOptions options = by_document(2, 4);
  const CalibrationSet set = build({source}, options);
  EXPECT_TRUE(set.token_weights.equal(weighted.token_weights));
  EXPECT_EQ(set.tokens(), 3);
  EXPECT_EQ(set.context_tokens(), 2);
  EXPECT_NE(ids_hash(set.ids, set.lengths, set.token_weights), ids_hash(set.ids, set.lengths));

  write_ids_file(folder_ / "again.safetensors", set);
  const CalibrationSet again = build({{.path = folder_ / "again.safetensors"}}, options);
  EXPECT_EQ(ids_hash(again.ids, again.lengths, again.token_weights),
            ids_hash(set.ids, set.lengths, set.token_weights));

  weighted.token_weights.narrow(1, 0, 3).fill_(0);
  write_ids_file(folder_ / "none.safetensors", weighted);
  EXPECT_THAT(build_error({{.path = folder_ / "none.safetensors"}}, options),
              AllOf(HasSubstr("none.safetensors: no token counts: all 5 of the 2 samples have weight 0")));
}

// What is behind the samples is not kept, but counted: also where BOS begins a sample or lacks there.
TEST_F(CalibrationSets, CountsAreOfAllTheData) {
  std::string lines;
  for (int i = 0; i < 40; ++i)
    lines += fmt::format("{{\"text\": \"{}\"}}\n",
                         std::string(static_cast<size_t>(i % 7), static_cast<char>('a' + i % 26)));
  std::vector<DataSource> sources = {file("a.jsonl", lines), file("b.jsonl", lines + lines)};
  encoder_.special_tokens = true;
  encoder_.min_tokens = 4;
  for (const bool document : {false, true}) {
    SampleOptions options = document ? by_document(2, 6) : pack(2, 6);
    options.bos = 1;
    const CalibrationSet few = build(sources, options);
    options.samples = few.usable;
    const CalibrationSet all = build(sources, options);
    EXPECT_GT(few.usable, 60);
    EXPECT_EQ(few.usable, all.usable);
    EXPECT_EQ(few.unused_tokens, all.unused_tokens);
    for (size_t i = 0; i < 2; ++i) {
      const SourceCounts &a = few.sources[i], &b = all.sources[i];
      EXPECT_EQ(std::tie(a.documents, a.dropped, a.truncated, a.tokens, a.usable),
                std::tie(b.documents, b.dropped, b.truncated, b.tokens, b.usable));
    }
    for (size_t i = 0; i < 2; ++i) EXPECT_THAT(samples(all)[i], StartsWith(samples(few)[i]));
  }
}

TEST_F(CalibrationSets, KeepNoIdsBehindThoseAskedFor) {
  const DataSource source = file("a.jsonl", "{\"text\": \"abcd\"}\n{\"text\": \"x\"}\n{\"text\": \"efg\"}\n");
  encoder_.special_tokens = true;
  TokenStream stream;
  stream.mark = 1;
  stream.most_ids = 5;
  encoder_.min_tokens = 4;
  append(source, 0, encoder_, stream, nullptr);
  EXPECT_THAT(stream.ids, ElementsAre(1, 'a', 'b', 'c', 'd'));
  EXPECT_EQ(stream.size, 11);
  EXPECT_TRUE(stream.is_mark(0) && stream.is_mark(6));
  EXPECT_FALSE(stream.is_mark(1) || stream.is_mark(5) || stream.is_mark(7));
  TokenStream documents;
  documents.most_documents = 1;
  append(source, 0, encoder_, documents, nullptr);
  EXPECT_EQ(documents.ids.size(), 6u);
  EXPECT_EQ(documents.documents.size(), 2u);
}

/// Everything that a set says of its samples.
void expect_same(const CalibrationSet& a, const CalibrationSet& b) {
  EXPECT_EQ(ids_hash(a.ids, a.lengths, a.token_weights), ids_hash(b.ids, b.lengths, b.token_weights));
  EXPECT_EQ(a.token_weights.defined(), b.token_weights.defined());
  EXPECT_EQ(a.lengths, b.lengths);
  EXPECT_EQ(std::tie(a.usable, a.with_bos, a.unused_tokens), std::tie(b.usable, b.with_bos, b.unused_tokens));
  EXPECT_EQ(a.census.documents(), b.census.documents());
  for (size_t i = 0; i < a.sources.size(); ++i) {
    const SourceCounts &x = a.sources[i], &y = b.sources[i];
    EXPECT_EQ(std::tie(x.documents, x.dropped, x.truncated, x.tokens, x.usable, x.taken, x.taken_tokens),
              std::tie(y.documents, y.dropped, y.truncated, y.tokens, y.usable, y.taken, y.taken_tokens));
  }
}

// A limit that leaves no room for the ids of all documents makes them be read again for those that were
// drawn.
TEST_F(CalibrationSets, DrawnSamplesDontNeedAllIdsAtOnce) {
  std::string lines;
  for (int i = 0; i < 60; ++i)
    lines += fmt::format("{{\"text\": \"{}\"}}\n",
                         std::string(static_cast<size_t>(i % 9), static_cast<char>('a' + i % 26)));
  std::vector<DataSource> sources = {file("a.jsonl", lines), file("b.txt", lines), file("c.jsonl", lines)};
  encoder_.special_tokens = true;
  encoder_.min_tokens = 5;
  for (const double weight : {1.0, 2.5}) {
    for (const bool mix : {false, true}) {
      for (const bool document : {false, true}) {
        sources[2].token_weight = weight;
        sources[0].weight = mix ? 1 : 0;  // c gets no sample at all
        sources[1].samples = mix ? (document ? 1 : 6) : 0;
        sources[2].samples = mix ? 1 : 0;
        SampleOptions options = document ? by_document(9, 6, 3) : pack(9, 6, 3);
        options.bos = 1;
        encoder_.max_ram = 0;
        const CalibrationSet at_once = build(sources, options);
        encoder_.max_ram = 1;  // nothing is left for ids; files as small as these are not blamed for it
        expect_same(build(sources, options), at_once);
      }
    }
  }
}

TEST_F(CalibrationSets, LetIdsGoOnceTheyAreTooMany) {
  const DataSource source = file("a.jsonl", "{\"text\": \"ab\"}\n{\"text\": \"cdefgh\"}\n[1, 99, 1, 100]\n");
  encoder_.special_tokens = true;
  TokenStream stream;
  stream.mark = 1;
  stream.most_bytes = 8 * sizeof(int32_t);
  append(source, 0, encoder_, stream, nullptr);
  EXPECT_TRUE(stream.let_go);
  EXPECT_THAT(stream.ids, IsEmpty());
  EXPECT_EQ(stream.size, 16);
  EXPECT_THAT(stream.marks, ElementsAre(0, 4, 12, 14)) << "also those that were seen before";

  TokenStream again;
  again.only = {{1, 3}, {11, 14}};
  append(source, 0, encoder_, again, nullptr);
  EXPECT_EQ(again.size, 16);
  EXPECT_THAT(again.ids, ElementsAre('a', 'b', 2, 1, 'c'));
}

class ReadingLimits : public CalibrationSets {
 protected:
  static constexpr size_t kSize = size_t{96} << 20;

  std::string refusal(const DataSource& source) {
    encoder_.max_ram = peak_rss_bytes() + (uint64_t{1} << 20);
    return build_error({source}, pack(1, 4));
  }
};

TEST_F(ReadingLimits, AreRefusedBeforeReadingWithWhatWouldDo) {
  const DataSource text = file("a.txt", std::string(kSize, 'x'));
  const uint64_t before = peak_rss_bytes();
  EXPECT_THAT(refusal(text),
              AllOf(HasSubstr("a.txt: --max-ram (limits.ram) is"), HasSubstr("its 96.0 MiB of text"),
                    HasSubstr("raise the limit to that, or split it")));
  EXPECT_THAT(
      refusal(file("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"" + std::string(kSize, 'x') + "\"}\n")),
      HasSubstr("line 2 of 96.0 MiB, the longest"));
  const std::string numbers = "[1" + [] {
    std::string rest;
    for (size_t i = 0; i < kSize / 16; ++i) rest += ",1";
    return rest;
  }() + "]\n";
  EXPECT_THAT(refusal(file("b.jsonl", numbers)), HasSubstr("line 1 of 12.0 MiB")) << "a number is many bytes";
  // Enough for the text, and refused while it is read where what was known before was too little.
  encoder_.max_ram = 0;
  EXPECT_EQ(check_reading(std::vector{text}, encoder_, 0), std::numeric_limits<uint64_t>::max());
  encoder_.max_ram = uint64_t{1} << 40;
  EXPECT_LT(check_reading(std::vector{text}, encoder_, 0), (uint64_t{1} << 40) - before - kSize);
}

/// Long texts in blocks, as the tokenizers of models do it.
class ByteBlocks : public test::ByteTokenizer {
 public:
  void encode_in_blocks(std::string_view text, bool, const IdSink& sink) const override {
    constexpr size_t kBlock = size_t{1} << 16;
    for (size_t at = 0; at < text.size(); at += kBlock) sink(encode(text.substr(at, kBlock), false));
  }
  uint64_t copies_of_text() const override { return 0; }
};

/// The limit that a refusal names, in bytes; 0 where it names none.
uint64_t named_limit(const std::string& refusal) {
  std::smatch found;
  const std::regex limit("takes ([0-9]+) MiB at most; raise the limit to that|; ([0-9]+) MiB surely do");
  if (!std::regex_search(refusal, found, limit)) return 0;
  return std::stoull(found[1].matched ? found[1] : found[2]) << 20;
}

// In a process of its own for each, since a peak never falls.
TEST_F(ReadingLimits, TheNamedLimitDoes) {
  std::string long_text(size_t{20} << 20, 'x'), numbers = "[1";
  for (int i = 0; i < 3'000'000; ++i) numbers += ",97";
  std::string npy = "\x93NUMPY\x01";
  npy += std::string(1, '\0') + std::string("\x76\0", 2);
  std::string header = "{'descr': '|u1', 'fortran_order': False, 'shape': (8000000,), }";
  header.resize(117, ' ');
  npy += header + "\n" + std::string(8'000'000, '\0');
  const std::vector<DataSource> sources = {
      file("a.txt", long_text), file("b.jsonl", nlohmann::json({{"text", long_text}}).dump() + "\n"),
      file("c.jsonl", numbers + "]\n"), file("d.npy", npy)};
  const ByteBlocks blocks;
  encoder_.tokenizer = &blocks;
  std::string().swap(long_text);
  std::string().swap(numbers);
  std::string().swap(npy);
  for (const DataSource& source : sources) {
    for (const uint64_t seed : {0, 1}) {
      const auto read_within_named = [&] {
        map_large_blocks();  // as main() does
        use_block_allocator();
        encoder_.max_ram = peak_rss_bytes() + (uint64_t{1} << 20);
        const std::string message = build_error({source}, pack(8, 256, seed));
        encoder_.max_ram = named_limit(message);
        const uint64_t before = peak_rss_bytes();
        build({source}, pack(8, 256, seed));
        fmt::print(stderr, "{}\ntook {} MiB of {}, before {}\n", message, peak_rss_bytes() >> 20,
                   encoder_.max_ram >> 20, before >> 20);
        std::exit(encoder_.max_ram > 0 && peak_rss_bytes() <= encoder_.max_ram ? 0 : 1);
      };
      EXPECT_EXIT(read_within_named(), ::testing::ExitedWithCode(0), "") << source.path << ", seed " << seed;
    }
  }
}

TEST_F(ReadingLimits, BlameTheFileForWhatItAddedWhileItWasRead) {
  const DataSource source = file("a.txt", "some text");
  encoder_.max_ram = 1;
  const ReadingLimit small(source, encoder_, false);
  Encoder any = encoder_;
  any.max_ram = 0;
  const ReadingLimit none(source, any, false);
  EXPECT_NO_THROW(small.check()) << "nothing was read yet";
  std::vector<char> more(4 * kSize, 'x');
  EXPECT_NO_THROW(none.check());
  EXPECT_THAT(error_of([&] { small.check(); }),
              AllOf(HasSubstr("a.txt: --max-ram (limits.ram) is 1 B"), HasSubstr("surely do")));
  EXPECT_EQ(more.back(), 'x');
}

TEST_F(CalibrationSets, DumpsReadBackAsTheSameSet) {
  const DataSource source =
      file("a.jsonl", "{\"text\": \"abcdef\"}\n{\"text\": \"gh\"}\n{\"text\": \"jkl\"}\n");
  const auto same = [&](const CalibrationSet& set, const char* name, const SampleOptions& options) {
    write_ids_file(folder_ / name, set);
    const CalibrationSet back = build({{.path = folder_ / name}}, options);
    EXPECT_TRUE(back.ids.equal(set.ids)) << name;
    EXPECT_EQ(back.lengths, set.lengths) << name;
    EXPECT_EQ(ids_hash(back.ids, back.lengths), ids_hash(set.ids, set.lengths));
  };
  const CalibrationSet packed = build({source}, pack(2, 4, 5)), ragged = build({source}, by_document(3, 4));
  same(packed, "ids.safetensors", pack(2, 4, 5));
  same(packed, "ids.npy", pack(2, 4));
  same(ragged, "ragged.safetensors", by_document(3, 4));
  EXPECT_THAT(error_of([&] { write_ids_file(folder_ / "ragged.npy", ragged); }),
              HasSubstr("the samples differ in length, which a .npy file can't say"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "ragged.npy"));
  EXPECT_THAT(error_of([&] { check_ids_file("ids.txt"); }), HasSubstr("ids.txt: token ids are written to"));
  EXPECT_THAT(error_of([&] { write_ids_file(folder_ / "no" / "ids.npy", packed); }), HasSubstr("ids.npy"));
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
  EXPECT_EQ(ids_hash(ids.view({2, 3}), {3, 2}), "xxh3-128:18876addea69a6d0ccaf36f8f00a4edd");
}

class TokenRows : public test::DataFiles {
 protected:
  Ids rows(const std::vector<DataSource>& sources, int64_t length) {
    const at::Tensor ids = token_rows(sources, encoder_, length, counts_);
    EXPECT_EQ(ids.sizes(), (at::IntArrayRef{counts_.rows, length}));
    return {ids.data_ptr<int64_t>(), ids.data_ptr<int64_t>() + ids.numel()};
  }
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

TEST_F(TokenRows, RefusesDataWithoutTokens) {
  EXPECT_THAT(error_of([&] { rows({file("d.jsonl", "{\"text\": \"\"}\n")}, 1); }),
              HasSubstr("d.jsonl: the text gives no tokens"));
  EXPECT_THAT(error_of([&] { rows({}, 1); }), HasSubstr("no text to read"));
}

}  // namespace
}  // namespace lathe
