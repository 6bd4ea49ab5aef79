#include "lib/tensor/block_allocator.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <string_view>
#include <unordered_map>

#include "lib/base/process_memory.h"

namespace lathe {
namespace {

constexpr size_t kPage = 4096, kHugePage = size_t{2} << 20;

size_t rounded_up(size_t bytes, size_t multiple) { return (bytes + multiple - 1) / multiple * multiple; }

/// A new mapping that begins at a multiple of `alignment`; null where there is none to be had.
void* mapped(size_t bytes, size_t alignment) {
  const size_t wanted = bytes + (alignment > kPage ? alignment : 0);
  void* const all = ::mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED) return nullptr;
  char* const begin = static_cast<char*>(all);
  char* const block = reinterpret_cast<char*>(rounded_up(reinterpret_cast<uintptr_t>(begin), alignment));
  if (block > begin) ::munmap(begin, static_cast<size_t>(block - begin));
  if (begin + wanted > block + bytes)
    ::munmap(block + bytes, static_cast<size_t>(begin + wanted - block - bytes));
  return block;
}

class BlockAllocator final : public c10::Allocator {
 public:
  BlockAllocator() : small_(c10::GetDefaultCPUAllocator()) {
    const char* const wanted = std::getenv("THP_MEM_ALLOC_ENABLE");
    huge_pages_ = wanted == nullptr || std::string_view(wanted) != "0";
  }

  static BlockAllocator& instance() {
    static BlockAllocator* const allocator = new BlockAllocator;  // tensors may outlive every static
    return *allocator;
  }

  c10::DataPtr allocate(size_t bytes) override {
    void* block = bytes < kSmallestBlock ? nullptr : take(rounded_up(bytes, kPage));
    if (block == nullptr)
      block = small_->raw_allocate(bytes);  // and where nothing can be mapped: its error is known
    return {block, block, &free_block, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_block; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  void release_kept() {
    const std::lock_guard lock(mutex_);
    shrink_to(0);
  }

 private:
  struct Block {
    void* begin;
    size_t bytes;
  };

  static void free_block(void* block) {
    if (block != nullptr) instance().give_back(block);
  }

  void* take(size_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto same =
        std::find_if(kept_.rbegin(), kept_.rend(), [&](const Block& one) { return one.bytes == bytes; });
    void* block = nullptr;
    if (same != kept_.rend()) {
      block = same->begin;
      kept_bytes_ -= bytes;
      kept_.erase(std::next(same).base());
    } else {
      const bool huge = huge_pages_ && bytes >= kHugePage;
      block = mapped(bytes, huge ? kHugePage : kPage);
      if (block == nullptr) return nullptr;
      if (huge) ::madvise(block, bytes, MADV_HUGEPAGE);  // a wish: where it isn't heard, small pages do
    }
    sizes_.emplace(block, bytes);
    return block;
  }

  void give_back(void* block) {
    {
      const std::lock_guard lock(mutex_);
      if (const auto found = sizes_.find(block); found != sizes_.end()) {
        const size_t bytes = found->second;
        sizes_.erase(found);
        if (bytes >= kLargestKept) {
          ::munmap(block, bytes);
          return;
        }
        shrink_to(kKeptBytes - bytes);
        kept_.push_back({block, bytes});
        kept_bytes_ += bytes;
        return;
      }
    }
    small_->raw_deallocate(block);
  }

  /// Lets the blocks go that were freed first.
  void shrink_to(size_t bytes) {
    while (kept_bytes_ > bytes) {
      ::munmap(kept_.front().begin, kept_.front().bytes);
      kept_bytes_ -= kept_.front().bytes;
      kept_.pop_front();
    }
  }

  c10::Allocator* small_;
  bool huge_pages_ = true;
  std::mutex mutex_;
  std::unordered_map<void*, size_t> sizes_;  // of blocks in use
  std::deque<Block> kept_;                   // the last one freed last
  size_t kept_bytes_ = 0;
};

}  // namespace

void use_block_allocator() {
  c10::SetCPUAllocator(&BlockAllocator::instance(), /*priority=*/255);
  also_release([] { BlockAllocator::instance().release_kept(); });
}

}  // namespace lathe
