// GPTQ as the paper writes it (arXiv 2210.17323, algorithm 1), in scalar FP64: slow, obvious, what the fast
// path (gptq.cc) is tested against.
#pragma once

#include <optional>

#include "algorithms/column_order.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe {

struct GptqReferenceProblem {
  at::Tensor weight;  // Double [out, in]
  at::Tensor gram;    // Double [in, in], H up to a factor
  Scheme scheme;
  DType scale_dtype = DType::F16;
  ActOrder act_order = ActOrder::none;
  bool static_groups = true;
  double damping = 0.01;
  std::optional<GroupRange> range = {};  // of the groups as they stand; else their minimum and maximum
};

struct GptqReferenceResult {
  QuantizedTensor quantized;
  double loss = 0;  // the sum of squared errors over pivots, tr(d H d^T) of the damped H
};

/// InternalError where the damped H isn't positive definite.
GptqReferenceResult gptq_reference(const GptqReferenceProblem& problem);

}  // namespace lathe
