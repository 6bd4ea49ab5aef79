// Importance matrices: read as gguf-py wrote one, written and read back, broken ones.
#include "formats/gguf/imatrix.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "formats/gguf/gguf_file.h"
#include "formats/gguf/gguf_writer.h"
#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

using testing::HasSubstr;

std::filesystem::path temporary(const std::string& name) {
  return std::filesystem::path(testing::TempDir()) / ("lathe_imatrix_" + name);
}

TEST(ImatrixLibrary, ReadsWhatGgufPyWrote) {
  const ImportanceMatrix matrix = read_imatrix(LATHE_SOURCE_DIR "/tests/golden/gguf/tiny_imatrix.gguf");
  EXPECT_EQ(matrix.datasets, std::vector<std::string>{"calib.txt"});
  EXPECT_EQ(matrix.chunks, 4u);
  EXPECT_EQ(matrix.chunk_size, 128u);
  ASSERT_EQ(matrix.entries.size(), 2u);
  const auto& q = matrix.entries.at("blk.0.attn_q.weight");
  EXPECT_EQ(q.tokens, std::vector<double>{512});
  ASSERT_EQ(q.mean_square.sizes(), (std::vector<int64_t>{1, 64}));
  EXPECT_FLOAT_EQ(q.mean_square[0][0].item<float>(), 0.9580518007278442f / 512);
  EXPECT_FLOAT_EQ(q.mean_square[0][63].item<float>(), 176.64649963378906f / 512);
  EXPECT_EQ(matrix.entries.at("blk.0.ffn_down.weight").mean_square.size(1), 128);
}

TEST(Imatrix, GivesALinearsRowOfItsOwnModelAlone) {
  ImportanceMatrix matrix;
  matrix.entries["blk.0.ffn_up_exps.weight"] = {at::arange(6).to(at::kFloat).view({3, 2}), {1, 1, 1}};
  GgufTensorRule rule{.hf = "model.layers.0.mlp.experts.1.up_proj.weight",
                      .gguf = "blk.0.ffn_up_exps.weight",
                      .shape = {5, 2}};
  rule.experts = 3, rule.expert = 1;
  EXPECT_TRUE(at::equal(matrix.of(rule, "i.gguf"), at::tensor({2.0f, 3.0f})));
  const auto refusal = [&]() -> std::string {
    try {
      matrix.of(rule, "i.gguf");
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  rule.experts = 4;
  EXPECT_THAT(refusal(),
              HasSubstr("i.gguf: 'blk.0.ffn_up_exps.weight': expected 4 x 2 channels, found 3 x 2"));
  rule.gguf = "blk.1.ffn_up_exps.weight";
  EXPECT_THAT(refusal(), HasSubstr("i.gguf: has nothing on 'blk.1.ffn_up_exps.weight'"));
}

TEST(Imatrix, WrittenAndReadBack) {
  ImportanceMatrix matrix;
  matrix.datasets = {"a.txt", "b.txt"};
  matrix.chunks = 3;
  matrix.chunk_size = 64;
  matrix.entries["blk.1.ffn_up.weight"] = {at::rand({1, 40}), {192}};
  matrix.entries["blk.1.ffn_up_exps.weight"] = {at::rand({3, 8}), {7, 0, 9}};
  const auto path = temporary("written.gguf");
  write_imatrix(path, matrix);
  const ImportanceMatrix back = read_imatrix(path);
  EXPECT_EQ(back.datasets, matrix.datasets);
  EXPECT_EQ(back.chunks, 3u);
  EXPECT_EQ(back.entries.at("blk.1.ffn_up.weight").tokens, std::vector<double>{192});
  const auto &experts = back.entries.at("blk.1.ffn_up_exps.weight"),
             &given = matrix.entries.at("blk.1.ffn_up_exps.weight");
  EXPECT_EQ(experts.tokens, given.tokens);
  EXPECT_TRUE(experts.mean_square[2].allclose(given.mean_square[2], 1e-6, 0));
  EXPECT_TRUE(experts.mean_square[1].equal(at::ones({8}))) << "no token reached it";
  EXPECT_TRUE(back.entries.at("blk.1.ffn_up.weight")
                  .mean_square.allclose(matrix.entries.at("blk.1.ffn_up.weight").mean_square, 1e-6, 0));
  // The file holds sums, as llama-quantize wants them.
  const GgufFile file = GgufFile::open(path);
  float sum;
  std::memcpy(&sum, file.tensor("blk.1.ffn_up.weight.in_sum2")->bytes.data(), sizeof sum);
  EXPECT_FLOAT_EQ(sum, 192 * matrix.entries.at("blk.1.ffn_up.weight").mean_square[0][0].item<float>());
}

struct Part {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
};

std::string error_of(const std::string& type, const std::vector<Part>& parts) {
  const auto path = temporary("broken.gguf");
  std::vector<GgufPlan> plans;
  for (const Part& part : parts) plans.push_back({part.name, GgmlType::F32, part.shape});
  {
    GgufWriter writer(path, {{"general.type", type}}, plans);
    for (const Part& part : parts) writer.write(part.name, std::as_bytes(std::span(part.values)));
    writer.finish();
  }
  try {
    read_imatrix(path);
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr(path.string()));
    return error.what();
  }
  return "";
}

TEST(Imatrix, RefusesOthers) {
  const Part sums{"w.in_sum2", {1, 2}, {4, 6}}, counts{"w.counts", {1, 1}, {2}};
  EXPECT_EQ(error_of("imatrix", {sums, counts}), "");
  EXPECT_THAT(error_of("model", {sums, counts}), HasSubstr("general.type: expected imatrix, found 'model'"));
  EXPECT_THAT(error_of("imatrix", {counts}), HasSubstr("holds no sums"));
  EXPECT_THAT(error_of("imatrix", {sums}), HasSubstr("counts are missing"));
  EXPECT_THAT(error_of("imatrix", {sums, {"w.counts", {2, 1}, {2, 2}}}), HasSubstr("1 sums but 2 counts"));
  EXPECT_THAT(error_of("imatrix", {{"w.in_sum2", {1, 2}, {4, -6}}, counts}), HasSubstr("negative"));
  EXPECT_THAT(
      error_of("imatrix", {{"w.in_sum2", {1, 2}, {4, std::numeric_limits<float>::quiet_NaN()}}, counts}),
      HasSubstr("not finite"));
  EXPECT_THAT(error_of("imatrix", {{"w.in_sum2", {1, 1, 1, 2}, {4, 1}}, counts}), HasSubstr("dimensions"));
}

TEST(Imatrix, AMatrixThatNoTokenReachedCountsAlike) {
  const auto path = temporary("idle.gguf");
  {
    GgufWriter writer(path, {{"general.type", std::string("imatrix")}},
                      {{"w.in_sum2", GgmlType::F32, {2, 2}}, {"w.counts", GgmlType::F32, {2, 1}}});
    const std::vector<float> sums = {4, 6, 0, 0}, counts = {2, 0};
    writer.write("w.in_sum2", std::as_bytes(std::span(sums)));
    writer.write("w.counts", std::as_bytes(std::span(counts)));
    writer.finish();
  }
  EXPECT_TRUE(
      read_imatrix(path).entries.at("w").mean_square.equal(at::tensor({2.f, 3.f, 1.f, 1.f}).view({2, 2})));
}

}  // namespace
}  // namespace lathe
