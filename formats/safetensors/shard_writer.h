// Writes a safetensors checkpoint tensor by tensor while the run goes on: all offsets are planned first, then
// each tensor goes to its place as it comes, in any order. Peak memory is one tensor. Tensors whose length is
// not known beforehand (PlannedTensor::open) stand in a shard of their own, one after the other as they come.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/safetensors/safetensors_header.h"

namespace lathe {

struct ShardPlan {
  struct Shard {
    std::string file;                    // "model.safetensors" or "model-00001-of-00003.safetensors"
    std::vector<PlannedTensor> tensors;  // in the order of their offsets
    uint64_t bytes = 0;                  // of tensor data; 0 where it is open
    bool open = false;                   // holds open tensors only
  };
  std::vector<Shard> shards;
  uint64_t total_bytes = 0;
};

/// Cuts the list, in order, into shards of at most `shard_size` bytes of data (a larger tensor gets its own
/// shard); open ones together make up the last one, whatever their size. UserError where that takes more than
/// 99,999 files; InternalError for a name that stands twice.
ShardPlan plan_shards(const std::vector<PlannedTensor>& tensors, uint64_t shard_size);

/// One thread at a time.
class ShardWriter {
 public:
  /// Creates the files, headers written and full length reserved. UserError naming the file on a full or
  /// read-only disk.
  ShardWriter(const ShardPlan& plan, const std::filesystem::path& folder);
  ~ShardWriter();
  ShardWriter(ShardWriter&&) noexcept;
  ShardWriter& operator=(ShardWriter&&) noexcept;

  /// InternalError for a name that was not planned, was written before, or whose size differs (is larger than
  /// planned, where it is open); UserError naming the file where the disk fails.
  void write(const std::string& name, std::span<const std::byte> bytes);
  /// The same in pieces of some MiB; `written` is called with each that has been. For bytes of a mapped file,
  /// which may be as large as a vocabulary and are in memory once they have been looked at.
  void write(const std::string& name, std::span<const std::byte> bytes,
             const std::function<void(std::span<const std::byte>)>& written);
  /// Syncs all, writes model.safetensors.index.json where there are several shards. InternalError if a tensor
  /// is missing.
  void finish();
  /// Of all tensors' data; open ones so far.
  uint64_t bytes_written() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lathe
