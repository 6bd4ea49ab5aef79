// A Hugging Face folder: shards, config.json with its quantization_config, and the target's side files.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "apps/quantize/artifact.h"
#include "formats/safetensors/shard_writer.h"

namespace lathe {

class SafetensorsArtifact final : public ArtifactWriter {
 public:
  /// Creates the shards. `tensors`: as for open_writer().
  SafetensorsArtifact(const Plan& plan, const OutputPlan& output, const ModelFolder& model,
                      std::map<std::string, TensorInfo> tensors, std::filesystem::path folder,
                      uint64_t shard_size);

  void write_outside_blocks() override;
  void write_rest(size_t block, const std::map<std::string, at::Tensor>& changed) override;
  void write_kv_cache(const std::string& attention, const KvCacheQuantizer& quantizer) override;
  uint64_t bytes() const override { return shards_.bytes_written(); }

 private:
  void pack(const LinearOutcome& linear) override;
  void finish_weights() override;
  Findings differing_weights(const WrittenTensors& written) const override;
  Findings check_weights(const WrittenTensors& written, bool folds) const override;
  void copy(const std::string& name);
  void write_shared();

  std::map<std::string, TensorInfo> tensors_;
  ShardWriter shards_;
  /// Target::shared_maximum of the linears of a block that have been packed, by what they read.
  struct SharedScale {
    at::Tensor largest;
    std::vector<std::string> names;
  };
  std::map<std::string, SharedScale> shared_;
  std::map<std::string, int64_t> outliers_;        // that each linear keeps; none without
  std::map<std::string, KvCacheQuantizer> cache_;  // of low_bit() schemes, by attention module
};

}  // namespace lathe
