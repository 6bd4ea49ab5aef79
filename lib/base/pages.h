// How the kernel backs a range of memory.
#pragma once

#include <cstddef>

namespace lathe {

/// Lets the whole pages of this range, untouched so far, come one by one, not 2 MiB at a time as large
/// tensors' do (map_large_blocks()): for what is written in stripes while what it takes the place of is let
/// go. Does nothing where the kernel has no huge pages.
void use_small_pages(void* data, std::size_t bytes);

}  // namespace lathe
