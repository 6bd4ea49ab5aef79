// Moves a channel scale across an edge of a block: producer's output channels / s, consumers' input columns *
// s.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "lib/model/forward.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe {

/// A block while it is being worked on.
struct BlockState {
  const Block* block = nullptr;
  BlockWeights* weights = nullptr;
  DType float_dtype = DType::F16;                 // what norms, biases and kept weights are stored in
  std::set<std::string> to_solve;                 // names of linears that a solver gets; the others are kept
  std::map<std::string, QuantizedTensor> solved;  // by linear name
  std::map<std::string, at::Tensor> given = {};   // of solved ones, what the solver was given, where kept
  std::map<std::string, at::Tensor> changed;      // floating-point tensors that differ from the checkpoint
};

/// Applies the scales (FP32 [in], > 0) to producer and consumers and returns the scales that really took
/// effect.
///
/// A norm's weight and a kept linear's bias are stored in 16 bits, so w / s is rounded; the consumers are
/// multiplied by the exact quotient of the old and the rounded value, which keeps the function unchanged to
/// FP32 rounding. Channels whose rounded value would vanish or overflow keep s = 1. A producer that is
/// already solved keeps its codes: its rows' scales are divided (QuantizedTensor::scale_rows)
/// and rounded to their storage type again, so there the function changes by that rounding (2^-11 of a scale
/// in F16).
at::Tensor apply_fold(BlockState& state, const ScaleEdge& edge, const at::Tensor& scales);

/// Values of an input as they are once its producer was folded: x / s for the scales of every fold, in x's
/// dtype. For streams of the unquantised model, whose weights no fold has reached.
at::Tensor after_folds(const at::Tensor& x, const std::vector<at::Tensor>& scales);

/// [in] scales of consumer columns -> [producer rows]: takes one of the `repeat` equal heads under GQA.
at::Tensor producer_scales(const ScaleEdge& edge, const at::Tensor& scales);

}  // namespace lathe
