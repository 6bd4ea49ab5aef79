// The folders that a run writes: shards while blocks finish, then config.json and the files that go along.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/quantize/layout_writer.h"
#include "calib/driver/driver.h"
#include "formats/safetensors/checkpoint.h"
#include "formats/safetensors/shard_writer.h"
#include "formats/targets/model_folder.h"
#include "recipes/plan.h"

namespace lathe {

/// One output format's folder.
class ArtifactWriter {
 public:
  /// Creates the shards. `folder` exists. `tensors`: those of `source`, a packed linear's standing as the
  /// weight that they mean.
  ArtifactWriter(const Plan& plan, const OutputPlan& output, const ModelGraph& graph,
                 const Checkpoint& source, std::map<std::string, TensorInfo> tensors,
                 std::filesystem::path folder, uint64_t shard_size);

  /// Copies every tensor that is in no block, byte for byte.
  void write_outside_blocks();
  /// Packs the block's quantised linears; writes what folds changed; copies the rest byte for byte.
  void write_block(const BlockOutcome& outcome);
  /// The same in parts, so that not all of a block's linears need to stand in memory at once: each of them,
  /// then the rest of the block.
  void write_linear(const LinearOutcome& linear);
  void write_rest(size_t block, const std::map<std::string, at::Tensor>& changed);
  /// Completes the shards; writes config.json with its quantization_config; copies tokenizer and other side
  /// files.
  void finish();
  /// Compares what finish() left in the layouts' folders with what was packed. CheckFailed.
  void verify_layouts() const;

  /// From then on quantised linears are written in these, too.
  void add_layouts(std::vector<LayoutWriter> layouts) { layouts_ = std::move(layouts); }

  const std::filesystem::path& folder() const { return folder_; }
  std::vector<std::string> consumers() const { return consumer_lines(plan_, output_, graph_); }
  const Target& target() const { return *output_.target; }
  /// Of weight files' tensors: all of them, once finish() has been called.
  uint64_t bytes() const { return shards_.bytes_written(); }

 private:
  void copy(const std::string& name);

  const Plan& plan_;
  const OutputPlan& output_;
  const ModelGraph& graph_;
  const Checkpoint& source_;
  std::map<std::string, TensorInfo> tensors_;
  std::filesystem::path folder_;
  ShardWriter shards_;
  std::vector<LayoutWriter> layouts_;
  std::map<std::string, int64_t> outliers_;  // that each linear keeps; none without
};

using ArtifactWriters = std::vector<std::unique_ptr<ArtifactWriter>>;

/// One for each output of the plan, in `folder` or, where there are several, in a folder each below it, with
/// every tensor written that is in no block.
ArtifactWriters open_writers(const Recipe& recipe, const Plan& plan, const ModelFolder& model,
                             const std::filesystem::path& folder);

}  // namespace lathe
