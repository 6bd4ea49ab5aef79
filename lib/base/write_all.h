// What the files that are written here share: whole pieces, and room on the disk before it is needed.
//
// Each function returns 0 or an errno: what the file is to the person who reads the error, its owner knows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace lathe {

/// All of `bytes`, at the descriptor's place or at `offset`; a write that takes nothing counts as a full
/// disk. Where the bytes are mapped from a file that was cut meanwhile, the kernel can't read them (EFAULT):
/// they are read here, so that it ends as a read of them does (SIGBUS, see apps/quantize/mapped_fault.h), and
/// not as an error of the file that is written.
int write_all(int fd, std::span<const std::byte> bytes);
int write_all_at(int fd, uint64_t offset, std::span<const std::byte> bytes);

/// Takes disk space for the file's first `bytes` now, so that a full disk is found before hours of work, not
/// after. Where the file system can't reserve, only the size is set, and a full disk shows when it is
/// written.
int reserve_room(int fd, uint64_t bytes);

}  // namespace lathe
