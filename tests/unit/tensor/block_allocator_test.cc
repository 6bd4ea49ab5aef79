#include "lib/tensor/block_allocator.h"

#include <ATen/ATen.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "lib/base/process_memory.h"

namespace lathe {
namespace {

constexpr int64_t kMebibyte = int64_t{1} << 20;

class BlockAllocatorTest : public testing::Test {
 protected:
  void SetUp() override {
    use_block_allocator();
    release_free_memory();
  }
  static at::Tensor filled(int64_t bytes) { return at::full({bytes}, 7, at::kByte); }
};

TEST_F(BlockAllocatorTest, ATensorOfTheSameSizeTakesThePlaceOfTheLast) {
  const void* const place = filled(3 * kMebibyte).data_ptr();
  const at::Tensor again = filled(3 * kMebibyte);
  EXPECT_EQ(again.data_ptr(), place);
  EXPECT_NE(filled(3 * kMebibyte).data_ptr(), place) << "it is taken";
  EXPECT_NE(filled(5 * kMebibyte).data_ptr(), place);
}

TEST_F(BlockAllocatorTest, LargeBlocksBeginAtAHugePage) {
  const at::Tensor large = filled(3 * kMebibyte + 1), small = filled(100);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(large.data_ptr()) % (2 * kMebibyte), 0u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(small.data_ptr()) % 64, 0u);
  EXPECT_TRUE((large == 7).all().item<bool>());
}

TEST_F(BlockAllocatorTest, WhatIsFreedStaysOnlyUpToItsBound) {
  const uint64_t before = resident_bytes();
  {
    std::vector<at::Tensor> many;
    for (int i = 0; i < 20; ++i) many.push_back(filled(4 * kMebibyte + i));
    for (int i = 0; i < 3; ++i) many.push_back(filled(40 * kMebibyte));
    EXPECT_GE(resident_bytes(), before + 200 * kMebibyte) << "they are there";
  }
  EXPECT_LE(resident_bytes(), before + kKeptBytes + 2 * kMebibyte);
  release_free_memory();
  EXPECT_LE(resident_bytes(), before + 2 * kMebibyte);
}

TEST_F(BlockAllocatorTest, ServesThoseThatAskForBytes) {
  c10::Allocator* const allocator = c10::GetCPUAllocator();
  for (const size_t bytes : {size_t{0}, size_t{64}, size_t{2} << 20, size_t{40} << 20}) {
    char* const block = static_cast<char*>(allocator->raw_allocate(bytes));
    if (bytes > 0) block[bytes - 1] = 1;
    allocator->raw_deallocate(block);
  }
}

TEST_F(BlockAllocatorTest, ThreadsShareIt) {
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int value = 1; value <= 4; ++value) {
    threads.emplace_back([&wrong, value] {
      for (int round = 0; round < 200; ++round) {
        const at::Tensor mine = at::full({kMebibyte + 4096 * (round % 3)}, value, at::kByte);
        if (!(mine == value).all().item<bool>()) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(BlockAllocatorTest, WhatCantBeHadIsTheKnownError) {
  EXPECT_THROW(at::empty({int64_t{1} << 60}, at::kByte), c10::Error);
}

}  // namespace
}  // namespace lathe
