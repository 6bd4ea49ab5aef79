// A safetensors checkpoint onto a disk, beside what the disk takes of the same bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>

namespace lathe::bench {

/// Medians in GB (10^9 bytes) a second of `megabytes` in 8 MB tensors, each written three times in turn, to
/// the medium (fsync) into a fresh folder below `folder`: "write_gb_per_second" by ShardWriter, and
/// "disk_gb_per_second" by write() of one file. UserError where the disk fails.
nlohmann::json measure_writing(const std::filesystem::path& folder, int64_t megabytes);

}  // namespace lathe::bench
