// A folder of one kernel layout: safetensors with the quantised linears as the kernel reads them, and
// layout.json, which says for each what it is: scheme, shape, tensors, order, kernel, GPU generation.
// formats/layouts/layout_folder.h reads it.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "formats/safetensors/shard_writer.h"
#include "formats/verify/finding.h"
#include "recipes/plan.h"

namespace lathe {

class LayoutFolder;

class LayoutWriter {
 public:
  /// Creates the folder and its shards.
  LayoutWriter(const Plan& plan, const LayoutPlan& layout, std::filesystem::path folder, uint64_t shard_size);

  /// Packs one linear of the plan, on the CPU; it is in memory until this returns.
  void write(const std::string& linear, const QuantizedTensor& tensor);
  /// Completes the shards; writes layout.json.
  void finish();
  /// Opens the folder as it stands on disk, unpacks every linear and compares it with what write() was given:
  /// those that differ.
  Findings check() const;

 private:
  bool is_as_written(const std::string& linear, const LayoutFolder& stored) const;

  const KernelLayout* layout_;
  std::filesystem::path folder_;
  std::map<std::string, PlannedLinear> linears_;  // by name
  std::map<std::string, std::string> hashes_;     // of what write() was given, by linear
  ShardWriter shards_;
};

}  // namespace lathe
