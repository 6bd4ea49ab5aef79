// A file of golden tensors that knows which of them were read: one that no test compares proves nothing.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe::test {

class GoldenFile {
 public:
  /// `name`: below tests/golden.
  explicit GoldenFile(const std::string& name)
      : name_(name), tensors_(read_safetensors(fs::path(LATHE_SOURCE_DIR) / "tests/golden" / name)) {
    opened().push_back(this);
  }

  const at::Tensor& at(const std::string& tensor) const {
    read_.insert(tensor);
    return tensors_.at(tensor);
  }

  /// A whole run of the program must have read everything; a filtered one may not.
  static void expect_all_read() {
    const ::testing::UnitTest& run = *::testing::UnitTest::GetInstance();
    if (run.test_to_run_count() != run.total_test_count()) return;
    for (const GoldenFile* file : opened()) {
      for (const auto& [tensor, value] : file->tensors_)
        EXPECT_TRUE(file->read_.contains(tensor)) << "no test reads " << tensor << " of " << file->name_;
    }
  }

 private:
  static std::vector<const GoldenFile*>& opened() {
    static std::vector<const GoldenFile*> files;
    return files;
  }

  std::string name_;
  std::map<std::string, at::Tensor> tensors_;
  mutable std::set<std::string> read_;
};

class UnreadGoldens : public ::testing::Environment {
  void TearDown() override { GoldenFile::expect_all_read(); }
};
inline const ::testing::Environment* const kUnreadGoldens =
    ::testing::AddGlobalTestEnvironment(new UnreadGoldens);

}  // namespace lathe::test
