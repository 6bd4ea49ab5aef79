#include "lib/tensor/triangle_file.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "lib/base/error.h"

namespace lathe {
namespace {

at::Tensor symmetric(int64_t size) {
  at::manual_seed(static_cast<uint64_t>(size));
  const at::Tensor half = at::randn({size, size});
  return half + half.t();
}

TEST(TriangleFile, GivesBackTheMatrixAndAnyRowsOfItsTriangle) {
  for (const int64_t size : {1, 5, 127, 128, 129, 300, 511}) {
    const at::Tensor matrix = symmetric(size), before = matrix.clone();
    const TriangleFile file(matrix, std::filesystem::temp_directory_path());
    matrix.fill_(7);
    file.read(matrix);
    EXPECT_TRUE(at::equal(matrix, before)) << size;
    for (const auto& [first, end] :
         {std::pair<int64_t, int64_t>{0, size}, {size / 3, size / 2 + 1}, {size - 1, size}}) {
      EXPECT_TRUE(at::equal(file.rows(first, end), before.slice(0, first, end).slice(1, first)))
          << first << " to " << end << " of " << size;
    }
  }
}

TEST(TriangleFile, TakesTheBytesThatArePlanned) {
  for (const int64_t size : {3, 129, 400}) {
    const uint64_t before = peak_scratch_bytes();
    uint64_t held = 0;
    {
      // Beside another that is as large as all that was held before, so that the peak is theirs.
      const ScratchFile other(std::filesystem::temp_directory_path(), before);
      const TriangleFile file(symmetric(size), std::filesystem::temp_directory_path());
      held = peak_scratch_bytes() - before;
    }
    EXPECT_EQ(held, TriangleFile::bytes(size)) << size;
  }
  EXPECT_LT(TriangleFile::bytes(4096), 4096ull * 4096 * 4 * 52 / 100);
}

TEST(TriangleFile, AFolderThatIsMissingIsNamed) {
  EXPECT_THROW(TriangleFile(symmetric(3), "no/such/folder"), UserError);
}

}  // namespace
}  // namespace lathe
