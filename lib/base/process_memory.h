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

/// Gives memory that was freed, but is held for later use, back to the system.
void release_free_memory();

}  // namespace lathe
