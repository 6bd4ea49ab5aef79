// Where tensors in host memory lie.
#pragma once

#include <cstdint>

namespace lathe {

/// Tensors of kSmallestBlock bytes and more from now on are mappings of their own, of which those that were
/// freed last are kept for the next tensor of the same size, kKeptBytes of them together and none of
/// kLargestKept or more. For main(), before the first tensor; it holds for the whole process.
/// release_free_memory() lets the kept ones go, too.
///
/// glibc lays blocks of 2 to 16 MiB that begin at a huge page into its heaps, and doesn't always find the
/// place of one that was freed again: the peak of the same run then differs by tens of MiB from one time to
/// the next (`quantize sensitivity` on the demonstration, KL: 240 to 276 MiB in five runs), which no plan of
/// memory can foresee. So, a tensor's memory is what it takes, and what is kept is bounded.
///
/// Large blocks begin at a huge page and ask for such pages, unless the user's THP_MEM_ALLOC_ENABLE is 0.
void use_block_allocator();

inline constexpr int64_t kSmallestBlock = int64_t{256} << 10, kLargestKept = int64_t{16} << 20;
inline constexpr int64_t kKeptBytes = int64_t{24} << 20;

}  // namespace lathe
