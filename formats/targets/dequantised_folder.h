// Packed models as the floating-point ones that they stand for: what a run starts from where a model is
// published in FP8, or in a format that Lathe reads alone. dequantised_folder() is model_folder.h's.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "formats/targets/model_folder.h"
#include "lib/model/weight_source.h"

namespace lathe {

/// The weights of a dequantised_folder(), without the rounding of inputs and cache that an engine does which
/// loads the packed model.
class DequantisedWeights final : public WeightSource {
 public:
  /// `described`: what was packed; most_bytes: of memory that one linear takes beside its FP32 values while
  /// it is dequantised.
  DequantisedWeights(std::unique_ptr<WeightSource> packed, std::string described, uint64_t most_bytes);

  /// "42 linears fp8_e4m3 block 128x128"
  const std::string& described() const { return described_; }
  uint64_t most_bytes() const { return most_bytes_; }

  bool contains(const std::string& name) const override;
  at::Tensor load(const std::string& name) const override;
  at::Tensor load_stored(const std::string& name) const override;
  at::Tensor load_rows(const std::string& name, const at::Tensor& rows) const override;
  bool looks_rows_up(const std::string& name) const override;

 private:
  std::unique_ptr<WeightSource> packed_;
  std::string described_;
  uint64_t most_bytes_;
};

/// Those of a dequantised_folder(); null for another model.
const DequantisedWeights* dequantised_weights(const ModelFolder& model);

/// Can a run start from it? From floating point, from what Lathe reads alone (PackedReader::read_alone()),
/// and from FP8 (E4M3) with plain scales, which models are published in: compressed-tensors', modelopt's and
/// quant_method fp8.
bool can_start_a_run(const ModelFolder& model);

/// The tensors of a checkpoint as those of a floating-point one for weights_graph(): FP8 (E4M3) matrices
/// "<module>.weight" are in the config's type (without one in BF16), and scales beside them are not there.
std::map<std::string, TensorInfo> floating_tensors(const Checkpoint& checkpoint);

}  // namespace lathe
