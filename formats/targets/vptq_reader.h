// Reads the linears of a VPTQ checkpoint. For a linear m with W[out, in]: vectors of v neighbouring outputs
// of one input, out of K centroids and, where there is a residual, Kr more that are added to those; the
// inputs, in an order of their own, are outliers first and then group_num groups of s, each with centroids of
// its own.
//   m.centroids.weight      T [group_num, K v]
//   m.res_centroids.weight  T [group_num, Kr v]     where Kr > 0
//   m.indices               I32 [group_num, ceil(out / v), ceil(s b / 32)]: a stream of b = log2 K + log2 Kr
//                           bits an input for each row (bitpack.h), the centroid's place in the low ones
//   m.outlier_centroids.weight, m.outlier_indices   T [1, Ko w], I16 [1, ceil(out / w), outliers]: vectors of
//                           w outputs, places not packed; where there are outliers
//   m.perm                  I16 [in], unsigned: which input each of the ordered ones is; enable_perm
//   m.weight_scale, m.weight_bias   T [in]: w = value * scale + bias; enable_norm
// Computed here in FP32 (the library computes in T).
// Source: vptq 0.0.5, layers/vqlinear.py, ops/quant_gemm.py (dequant), utils/pack.py; transformers 5.17,
// VptqConfig.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "formats/targets/layout_reader.h"

namespace lathe {

/// How one linear's vectors are stored.
struct VptqLayer {
  int64_t vector = 8, centroids = 0, residual = 0;                  // v, K, Kr (0: none)
  int64_t groups = 1, group_size = 0;                               // group_num, s
  int64_t outlier_vector = 0, outlier_centroids = 0, outliers = 0;  // w, Ko
  bool norm = false, perm = false;

  int index_bits() const;
  int residual_bits() const;
  int bits() const { return index_bits() + residual_bits(); }
};

class VptqReader final : public LayoutReader {
 public:
  /// A linear is packed where config_for_layers names it, or shared_layer_config the end of its name.
  /// UserError naming file, tensor or key.
  VptqReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph);

  /// Values of scheme vectors(). UserError for an outlier's place beyond its centroids, a perm that is no
  /// permutation, and a number that is not finite.
  QuantizedTensor read(const std::string& linear) const override;
  bool read_alone() const override { return true; }

 private:
  at::Tensor outliers(const PlannedLinear& linear, const VptqLayer& layer) const;
  at::Tensor order(const PlannedLinear& linear) const;

  std::map<std::string, VptqLayer> layers_;
};

/// Int [rows, n] of fields of `bits` (up to 32) in a dense stream, Int [rows, ceil(n bits / 32)]: the
/// `low_bits` lowest of each, and those above them.
struct VptqIndices {
  at::Tensor low, high;  // Int [rows, n]
};
VptqIndices unpack_vptq_indices(const at::Tensor& words, int low_bits, int bits, int64_t n);

}  // namespace lathe
