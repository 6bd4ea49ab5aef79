// Codes that a solver has already found (GPTQ, AWQ, RTN, ...) become ggml's blocks as they are, where the
// grids agree.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "lib/numeric/ggml_type.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe::kernels {

struct ExactBlocks {
  at::Tensor blocks;  // Byte [out, row_bytes(type, in)]; undefined where the grids don't agree
  std::string
      reason;  // then: what the type can't hold, in a clause ("its groups of 16 are shorter than ...")

  bool exact() const { return blocks.defined(); }
};

/// The blocks of `type` (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or MXFP4) whose values are the tensor's, each FP32
/// value the same number; or the reason why there are none. Nothing is rounded. tensor: in host memory.
///
/// Q4_0, Q5_0 and Q8_0 hold code - zero point in 4, 5 and 8 signed bits: so symmetric codes of up to as many
/// bits, and asymmetric codes of 4 bits always in Q5_0 (-15 to 15), since nothing is multiplied beforehand.
/// Q4_1 and Q5_1 hold scale x zero point as a half, which is exact only where the product fits one. Groups
/// must be whole blocks of 32 neighbours of a row; scales must be halves. MXFP4 holds codes of scheme
/// "mxfp4", always: both are E2M1 under a power of two, in blocks of 32. Q8_0 holds "mxint8", too: integers
/// in 64ths of a power of two, where the 64th of that is a half.
ExactBlocks exact_ggml_blocks(const QuantizedTensor& tensor, GgmlType type);

/// The smallest type of those for integers with exact blocks for the tensor; nothing where none has.
std::optional<GgmlType> exact_ggml_type(const QuantizedTensor& tensor);

}  // namespace lathe::kernels
