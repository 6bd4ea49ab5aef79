// Reads the linears of an AQLM checkpoint. For a linear m with W[out, in], n codebooks of 2^b vectors, each
// vector the weights of g neighbouring inputs of h neighbouring outputs:
//   m.codes      I8 (b <= 8) or I16 [out / h, in / g, n], those of 2^(b - 1) and more less 2^b
//   m.codebooks  T [n, 2^b, h, g]
//   m.scales     T [out / h, 1, 1, 1]
// W[o, i] = scales[o / h] * sum over c of codebooks[c, codes[o / h, i / g, c], o % h, i % g], the sum in the
// codebooks' order, here in FP32 (the library adds in T).
// Source: aqlm 1.1.7, inference.py (QuantizedLinear), utils.py (unpack_int_data, _dequantize_weight);
// transformers 5.17, AqlmConfig.
#pragma once

#include <memory>
#include <string>

#include "formats/targets/layout_reader.h"

namespace lathe {

class AqlmReader final : public LayoutReader {
 public:
  /// Every linear is packed but those whose weight stands in linear_weights_not_to_quantize. UserError naming
  /// file, tensor or key.
  AqlmReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph);

  /// Values of scheme vectors(). UserError for a code that no vector has, and a number that is not finite.
  QuantizedTensor read(const std::string& linear) const override;
  bool read_alone() const override { return true; }

 private:
  int codebooks_ = 1, bits_ = 16;                   // n, b
  int64_t in_group_size_ = 8, out_group_size_ = 1;  // g, h
};

}  // namespace lathe
