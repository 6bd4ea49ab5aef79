// What is freed goes back to the system, wherever smaller things lie in memory.
#include "lib/base/process_memory.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace lathe {
namespace {

constexpr size_t kBlock = kMappedBytes + (1 << 20);
constexpr int kBlocks = 4;

TEST(ProcessMemory, FreedBlocksDontStayResidentBetweenLivingOnes) {
  map_large_blocks();
  std::make_unique<char[]>(31 << 20).reset();  // when freed, it would raise glibc's own bound above kBlock
  std::vector<std::unique_ptr<char[]>> large, small;
  for (int i = 0; i < kBlocks; ++i) {
    large.push_back(std::make_unique<char[]>(kBlock));  // zeroed: resident
    small.push_back(std::make_unique<char[]>(2048));
  }
  const uint64_t full = resident_bytes();
  large.clear();
  EXPECT_LE(resident_bytes() + (kBlocks - 1) * kBlock, full);
}

TEST(ProcessMemory, ThePeakIsAtLeastWhatIsHeld) {
  EXPECT_GT(resident_bytes(), 0u);
  EXPECT_GE(peak_rss_bytes() + (1 << 20), resident_bytes());
  ASSERT_TRUE(available_memory().has_value());
  EXPECT_GT(*available_memory(), 0u);
}

}  // namespace
}  // namespace lathe
