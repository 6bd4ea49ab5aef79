// What a plan reads of large files: their heads.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include "calib/data/calibration_set.h"
#include "tests/unit/calib/data/data_files.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class CalibrationHeads : public test::DataFiles {
 protected:
  CalibrationSet build(const std::vector<DataSource>& sources, const SampleOptions& options) const {
    return build_calibration_set(sources, options, encoder_);
  }
  std::string build_error(const std::vector<DataSource>& sources, const SampleOptions& options) const {
    return error_of([&] { build(sources, options); });
  }
  static SampleOptions pack(int64_t samples, int64_t length) {
    return {.samples = samples, .seq_len = length};
  }
};

/// A plan's look at large files: their ends are no text at all, which whoever reads them says.
TEST_F(CalibrationHeads, OfALargeFileAPlanReadsTheHead) {
  std::string text, lines;
  while (text.size() < (size_t{5} << 20)) text += "abcdefgh ijklmno\n";
  while (lines.size() < (size_t{5} << 20)) lines += "{\"text\": \"abcdefgh ijklmno\"}\n";
  SampleOptions heads = pack(100, 64);
  heads.heads = true;
  for (const uint64_t seed : {0, 7}) {
    heads.seed = seed;
    for (const auto& [name, contents, documents] :
         {std::tuple{"a.txt", &text, int64_t{1}}, {"a.jsonl", &lines, std::ssize(lines) / 29}}) {
      const DataSource source = file(name, *contents + "\xff\n");
      EXPECT_THAT(build_error({source}, pack(100, 64)), HasSubstr("invalid UTF-8"));
      const CalibrationSet set = build({source}, heads);
      EXPECT_EQ(set.ids.sizes(), (at::IntArrayRef{100, 64}));
      const SourceCounts& counts = set.sources.front();
      EXPECT_FALSE(set.whole());
      EXPECT_NEAR(counts.read, 0.2, 0.001) << "a MiB of five";
      EXPECT_EQ(counts.file_hash, "");
      EXPECT_EQ(counts.taken, 100);
      const double tokens = documents == 1 ? text.size() : 16.0 * static_cast<double>(documents);
      EXPECT_NEAR(static_cast<double>(counts.tokens), tokens, 1e-4 * tokens) << name;
      EXPECT_NEAR(static_cast<double>(counts.usable), tokens / 64, 1e-3 * tokens / 64) << name;
      EXPECT_NEAR(static_cast<double>(counts.documents), static_cast<double>(documents), 1) << name;
      EXPECT_EQ(set.usable, counts.usable);
    }
  }
}

/// The first samples of a head are those of the whole.
TEST_F(CalibrationHeads, AHeadsFirstSamplesAreTheFiles) {
  std::string text;
  for (int i = 0; text.size() < (size_t{3} << 20); ++i) text += fmt::format("line {}\n", i);
  const DataSource source = file("a.txt", text);
  SampleOptions heads = pack(50, 100);
  heads.heads = true;
  EXPECT_TRUE(at::equal(build({source}, heads).ids, build({source}, pack(50, 100)).ids));
}

TEST_F(CalibrationHeads, AHeadGrowsUntilItGivesTheSamples) {
  std::string lines;
  while (lines.size() < (size_t{5} << 18)) lines += "{\"text\": \"a\"}\n";  // dropped as too short
  for (int i = 0; i < 8; ++i) lines += "{\"text\": \"abcdefgh\"}\n";
  const DataSource source = file("a.jsonl", lines);
  encoder_.min_tokens = 2;
  SampleOptions heads = {.samples = 8, .seq_len = 8, .packing = Packing::document};
  heads.heads = true;
  const CalibrationSet set = build({source}, heads);
  EXPECT_TRUE(set.whole());
  EXPECT_EQ(set.usable, 8);
  heads.samples = 9;
  EXPECT_THAT(build_error({source}, heads), HasSubstr("too little text: 9 samples"));
  // What is small is read as ever.
  heads.samples = 2;
  const DataSource small = file("b.jsonl", "{\"text\": \"abc\"}\n{\"text\": \"def\"}\n{\"text\": \"ghi\"}\n");
  const CalibrationSet whole = build({small}, heads);
  EXPECT_TRUE(whole.whole());
  EXPECT_EQ(whole.usable, 3);
  EXPECT_THAT(whole.sources.front().file_hash, StartsWith("xxh3-128:"));
}

}  // namespace
}  // namespace lathe
