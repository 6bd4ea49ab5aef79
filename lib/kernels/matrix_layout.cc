#include "lib/kernels/matrix_layout.h"

#include "lib/base/error.h"

namespace lathe::kernels {

MatrixLayout matrix_layout(const at::Tensor& x, const char* kernel) {
  LATHE_ASSERT(x.dim() == 2 && x.is_contiguous() && (x.is_cpu() || x.is_cuda()),
               "{}: expected a contiguous matrix on a CPU or CUDA device", kernel);
  MatrixLayout layout{x.size(0), x.size(1), InputType::f32};
  if (x.scalar_type() == at::kFloat) return layout;
  LATHE_ASSERT(x.is_cuda() && (x.scalar_type() == at::kHalf || x.scalar_type() == at::kBFloat16),
               "{}: a matrix of {} on {}", kernel, c10::toString(x.scalar_type()), x.device().str());
  layout.type = x.scalar_type() == at::kHalf ? InputType::f16 : InputType::bf16;
  return layout;
}

}  // namespace lathe::kernels
