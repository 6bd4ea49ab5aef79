// HQQ's half-quadratic solver on groups of weights: ranges -> scales, zero points and codes. The iteration is
// in device/hqq.cuh, shared by the CPU and the CUDA build; algorithms/hqq.cc says what it is.
#pragma once

#include "lib/numeric/quantized_tensor.h"

namespace lathe::kernels {

struct HqqChoice {
  double lp_norm = 0.7;  // p, in (0, 1]
  double beta = 10;      // > 0
  double kappa = 1.01;   // beta's factor from one iteration to the next, >= 1
  int64_t iterations = 20;
  bool early_stop = true;
  bool optimise_scale = false;
  bool round_start = false;  // real zero points start from an integer
};
/// The largest number of iterations.
int64_t hqq_max_iterations();

struct HqqResult {
  at::Tensor codes;        // Char [groups, length]
  at::Tensor scales;       // Float [groups, 1]; not finite where the range is not, or beyond scale_dtype
  at::Tensor zero_points;  // Float [groups, 1]: integers in [qmin, qmax] unless the scheme's are real
};

/// weight: FP32 [groups, length], contiguous, one group a row. range: where each group's grid starts, FP32
/// [groups, 1]. `scheme`: bits and kind of zero point; its groups don't count here.
HqqResult hqq(const at::Tensor& weight, const GroupRange& range, const Scheme& scheme, DType scale_dtype,
              const HqqChoice& choice);

}  // namespace lathe::kernels
