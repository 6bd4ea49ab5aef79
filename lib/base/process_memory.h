// The memory of this process and machine, as the kernel counts it.
#pragma once

#include <cstdint>
#include <optional>

namespace lathe {

/// Resident set of this process in bytes: now (VmRSS), and its peak (VmHWM). Pages of mapped files count.
uint64_t resident_bytes();
uint64_t peak_rss_bytes();

/// What the process can still take without swapping or being killed: the machine's MemAvailable, or what its
/// control group (v2) leaves, whichever is less. Nothing where the kernel doesn't say.
std::optional<uint64_t> available_memory();

/// Lets every block of kMappedBytes or more be a mapping of its own, which goes back to the system when it is
/// freed. For main(), before anything large is allocated; it holds for the whole process.
///
/// glibc does this from 128 KiB on at first, but raises the bound, up to 32 MiB, each time a larger mapping
/// is freed. From then on weights share heaps with whatever lives longer, one heap a thread, and what is
/// freed between two that live stays resident: a run's peak grows with the number of threads and with their
/// timing (tests/e2e/slow_peak_memory.sh, AWQ, two threads: 558 to 635 MiB; 536 so, in the same time). A
/// lower bound spares little more (523 MiB from 4 MiB on) and costs a tenth of the time in page faults: most
/// activations of a chunk lie between.
///
/// Tensors have an allocator of their own (lib/tensor/block_allocator.h).
void map_large_blocks();
inline constexpr int kMappedBytes = 16 << 20;

/// Gives memory that was freed, but is held for later use, back to the system.
void release_free_memory();
/// What release_free_memory() calls, too: of an allocator that isn't malloc's. The last one given holds.
void also_release(void (*release)());

}  // namespace lathe
