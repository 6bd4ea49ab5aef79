#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "lib/base/error.h"
#include "lib/kernels/accumulate.h"
#include "lib/kernels/target_clones.h"

namespace lathe::kernels {
namespace {

LATHE_CLONES void add_terms(double* __restrict sum, const float* __restrict terms, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sum[i] += static_cast<double>(terms[i]);
}

}  // namespace

void accumulate(const at::Tensor& sum, const at::Tensor& terms) {
  LATHE_ASSERT(sum.scalar_type() == at::kDouble && terms.scalar_type() == at::kFloat &&
                   sum.sizes() == terms.sizes() && sum.is_contiguous() && terms.is_contiguous() &&
                   sum.device() == terms.device(),
               "FP64 sums and FP32 terms don't fit");
  if (!sum.is_cpu()) {
    at::Tensor(sum).add_(terms);
    return;
  }
  double* const to = sum.data_ptr<double>();
  const float* const from = terms.const_data_ptr<float>();
  at::parallel_for(0, sum.numel(), 1 << 16,
                   [&](int64_t begin, int64_t end) { add_terms(to + begin, from + begin, end - begin); });
}

void accumulate_rows(double* sum, const float* terms, int64_t rows, int64_t columns, bool upper) {
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t first = upper ? row : 0;
    add_terms(sum + row * columns + first, terms + row * columns + first, columns - first);
  }
}

}  // namespace lathe::kernels
