#include "lib/base/new_folder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "lib/base/error.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

class NewFolderTest : public ::testing::Test {
 protected:
  NewFolderTest() : base_(fs::path(::testing::TempDir()) / ("new_folder." + std::to_string(getpid()))) {
    fs::create_directories(base_);
  }
  ~NewFolderTest() override { fs::remove_all(base_); }
  fs::path base_;
};

TEST_F(NewFolderTest, WhatIsEmptyGoes) {
  {
    const NewFolder folder(base_ / "a" / "b");
    EXPECT_TRUE(fs::is_directory(base_ / "a" / "b"));
  }
  EXPECT_FALSE(fs::exists(base_ / "a"));
  EXPECT_TRUE(fs::exists(base_));
}

TEST_F(NewFolderTest, WhatHoldsSomethingStays) {
  {
    const NewFolder folder(base_ / "a" / "b");
    std::ofstream(base_ / "a" / "file") << "x";
  }
  EXPECT_TRUE(fs::exists(base_ / "a" / "file"));
  EXPECT_FALSE(fs::exists(base_ / "a" / "b"));
}

TEST_F(NewFolderTest, WhatWasThereStays) {
  { const NewFolder folder(base_); }
  EXPECT_TRUE(fs::exists(base_));
}

TEST_F(NewFolderTest, WhereNoneCanBeMadeNothingIsLeft) {
  std::ofstream(base_ / "file") << "x";
  EXPECT_THROW(NewFolder(base_ / "file"), UserError);
  EXPECT_THROW(NewFolder(base_ / "file" / "a"), UserError);
  EXPECT_THROW(NewFolder(base_ / "a" / std::string(300, 'b')), UserError);
  EXPECT_FALSE(fs::exists(base_ / "a"));
}

}  // namespace
}  // namespace lathe
