// Reads the linears of a BitNet checkpoint, as transformers' BitLinear and AutoBitLinear store them. For a
// linear m with W[out, in] of -1, 0 and 1 times one scale of the tensor:
//   m.weight        U8 [out / 4, in]: code t + 1 of row r + k out / 4 in bits 2 k and 2 k + 1 of row r;
//                   AutoBitLinear's may also stand as numbers, [out, in]
//   m.weight_scale  T [1], which BitLinear divides by and AutoBitLinear multiplies by
// Their inputs are rounded to eight bits, token by token (127 over the largest magnitude), which is no grid
// of Lathe's: inputs stay as they are here.
// Source: transformers 5.23, integrations/bitnet.py; the same in 5.17.
#pragma once

#include <memory>
#include <string>

#include "formats/targets/layout_reader.h"

namespace lathe {

class BitnetReader final : public LayoutReader {
 public:
  /// A linear is packed where its weight_scale is there. UserError naming file, tensor or key, also where the
  /// configuration has weights rounded while the model runs (online), or inputs normalised first.
  BitnetReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph);

  /// Two-bit codes, every row with the tensor's scale. UserError for a code or number that is none of the
  /// three, and a scale that is not finite and positive.
  QuantizedTensor read(const std::string& linear) const override;
  bool read_alone() const override { return true; }

 private:
  bool divides_ = true;  // by the stored scale
};

/// Char [out, in] of Byte [out / 4, in]: the two-bit fields less one, -1 to 2.
at::Tensor unpack_ternary(const at::Tensor& packed);

}  // namespace lathe
