// GPTQ as the paper writes it (arXiv 2210.17323, algorithm 1), in scalar FP64, with searched ranges and with
// the move to the unquantised model's outputs (gptq.cc has the equations): slow, obvious, what the fast path
// is tested against.
#pragma once

#include "algorithms/column_order.h"
#include "lib/kernels/group_search_reference.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe {

/// What a group's grid spans.
enum class GptqReferenceRange {
  minmax,
  diagonal,  // what leaves the least sum of H_jj (w - Q)^2
  inverse    // of (w - Q)^2 / [H^-1]_jj
};

struct GptqReferenceProblem {
  at::Tensor weight;  // Double [out, in]
  at::Tensor gram;    // Double [in, in], H up to a factor
  Scheme scheme;
  DType scale_dtype = DType::F16;
  ActOrder act_order = ActOrder::none;
  bool static_groups = true;
  double damping = 0.01;
  GptqReferenceRange range = GptqReferenceRange::minmax;
  kernels::SearchSteps search = {};
  double match_reference = 0;  // how far W moves to where it gives the unquantised model's outputs
  at::Tensor cross_gram = {};  // Double [in, in], X_ref^T X up to the factor of `gram`; read where it moves
  at::Tensor global = {};      // kernels::global_scale() of the weights, where the scheme has one
};

struct GptqReferenceResult {
  QuantizedTensor quantized;
  double loss = 0;  // the sum of squared errors over pivots, tr(d H d^T) of the damped H
};

/// InternalError where the damped H isn't positive definite.
GptqReferenceResult gptq_reference(const GptqReferenceProblem& problem);

}  // namespace lathe
