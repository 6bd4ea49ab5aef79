// Whatever a run's bytes hang on changes its identity.
#include "apps/quantize/journal/run_identity.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::ElementsAre;

class RunIdentityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    data_.ids = at::arange(12, at::kLong).view({2, 6});
    folder_ = fs::temp_directory_path() / fmt::format("lathe-identity-{}", ::getpid());
    fs::create_directory(folder_);
    for (const auto& entry : fs::directory_iterator(fs::path(LATHE_SOURCE_DIR) / "data/models/lathe-tiny"))
      fs::copy(entry.path(), folder_ / entry.path().filename());
  }
  void TearDown() override { fs::remove_all(folder_); }
  json identity() const {
    const ModelFolder model = open_model_folder(folder_);
    return run_identity(recipe_, model, data_, evaluation_, c10::Device(c10::kCPU), compute_, together_);
  }
  /// Overwrites one byte, and keeps the file's time.
  void poke(const std::string& name, uint64_t at) const {
    const auto time = fs::last_write_time(folder_ / name);
    std::fstream file(folder_ / name, std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(static_cast<std::streamoff>(at));
    const auto byte = static_cast<char>(file.get() ^ 1);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(byte);
    file.close();
    fs::last_write_time(folder_ / name, time);
  }

  fs::path folder_;
  Recipe recipe_;
  CalibrationSet data_;
  at::Tensor evaluation_;
  DType compute_ = DType::F32;
  std::optional<int64_t> together_;
};

TEST_F(RunIdentityTest, EqualRunsAreEqual) { EXPECT_TRUE(differences(identity(), identity()).empty()); }

TEST_F(RunIdentityTest, WhatChangesNoByteMayChange) {
  const json before = identity();
  recipe_.limits.ram = 1 << 30;
  recipe_.limits.disk = 1 << 30;
  recipe_.output.path = "elsewhere";
  EXPECT_EQ(identity(), before);
}

TEST_F(RunIdentityTest, EveryPartCounts) {
  const json before = identity();
  const auto changes = [&](const std::string& key, const auto& change, const auto& undo) {
    change();
    const std::vector<std::string> found = differences(before, identity());
    ASSERT_EQ(found.size(), 1u) << key;
    EXPECT_TRUE(found[0].starts_with(key + " was ")) << found[0];
    undo();
    EXPECT_EQ(identity(), before) << key;
  };
  changes(
      "recipe.calibration.samples", [&] { recipe_.calibration.samples = 7; },
      [&] { recipe_.calibration.samples = 128; });
  changes(
      "calibration_ids", [&] { data_.ids[1][3] += 1; }, [&] { data_.ids[1][3] -= 1; });
  changes(
      "calibration_ids",
      [&] {
        data_.lengths = {6, 5};
      },
      [&] { data_.lengths = {}; });
  changes(
      "evaluation_ids", [&] { evaluation_ = at::arange(4, at::kLong); }, [&] { evaluation_.reset(); });
  changes(
      "compute_dtype", [&] { compute_ = DType::BF16; }, [&] { compute_ = DType::F32; });
  changes(
      "samples_together", [&] { together_ = 4; }, [&] { together_ = {}; });
  changes(
      "model.tokenizer_config.json.hash", [&] { poke("tokenizer_config.json", 1); },
      [&] { poke("tokenizer_config.json", 1); });
}

TEST_F(RunIdentityTest, ChangedFilesOfAModelAreSeen) {
  const json before = model_identity(open_model_folder(folder_));
  const auto changed = [&] { return differences(before, model_identity(open_model_folder(folder_))); };
  const fs::path weights = folder_ / "model.safetensors";
  const json whole = file_identity(weights);
  const uint64_t size = fs::file_size(weights);
  ASSERT_GT(size, uint64_t{2} << 20);
  for (const uint64_t at : {uint64_t{200}, uint64_t{1} << 20, size - 1}) {  // of what is sampled
    poke("model.safetensors", at);
    EXPECT_NE(file_identity(weights), whole) << at;
    poke("model.safetensors", at);
    EXPECT_EQ(file_identity(weights), whole) << at;
  }
  fs::last_write_time(folder_ / "model.safetensors", fs::file_time_type::clock::now());
  EXPECT_EQ(changed().size(), 1u) << "time of change of a large one";
  fs::copy(fs::path(LATHE_SOURCE_DIR) / "data/models/lathe-tiny/tokenizer.json", folder_ / "tokenizer.json",
           fs::copy_options::overwrite_existing);
  std::ofstream(folder_ / "LICENCE") << "new";
  std::ofstream(folder_ / ".hidden") << "nobody reads it";
  EXPECT_EQ(changed().size(), 2u);
}

TEST_F(RunIdentityTest, TheBuildIsThisProgram) {
  const json build = build_identity();
  EXPECT_TRUE(build.at("files").at("program").get<std::string>().starts_with("xxh3-128:"));
  EXPECT_TRUE(build.contains("libtorch") && build.contains("vector_code") && build.contains("processor"));
}

TEST(Differences, NameTheirPlace) {
  const json was = {{"a", {{"b", {1, 2, {{"c", "x"}}}}}}, {"same", 1}, {"gone", nullptr}};
  json is = was;
  is["a"]["b"][2]["c"] = "y";
  is["new"] = true;
  EXPECT_THAT(differences(was, is),
              ElementsAre("a.b[2].c was \"x\" and is \"y\"", "new was absent and is true"));
  is = was;
  is["a"]["b"] = {1};
  EXPECT_THAT(differences(was, is), ElementsAre("a.b was [1,2,{\"c\":\"x\"}] and is [1]"));
  EXPECT_TRUE(differences(was, was).empty());
}

}  // namespace
}  // namespace lathe
