// The gradient of a model's own likelihood at its last hidden states: where Fisher's information begins.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "lib/eval/pieced_head.h"

namespace lathe {

/// dL/d(states) of L = -sum over positions of log p(y), each y drawn from the model's own distribution p at
/// its position: the first token at which the probabilities' sum is beyond `uniform`. states [1, n, width]
/// FP32 before the final norm, uniform FP64 [n] in [0, 1) on the CPU; result [1, n, width]. The head's rows
/// are gone through twice, in pieces. CheckFailed where logits aren't finite.
at::Tensor drawn_label_gradient(const EvalInput& model, const at::Tensor& states, const at::Tensor& uniform,
                                c10::Device device);

/// FP32 tensors of the size of a piece's logits that are alive meanwhile: those, probabilities and their
/// running sums in FP64, two of a byte an element, the gradient, and three of a cap's derivative.
inline constexpr uint64_t kDrawnLabelLogits = 10;

}  // namespace lathe
