#include "lib/numeric/integer_zeros.h"

#include <ATen/ATen.h>

#include "lib/base/error.h"

namespace lathe {

at::Tensor off_grid_zeros(const QuantizedTensor& tensor) {
  LATHE_ASSERT(tensor.scheme.real_zero, "zero points of {} aren't real", tensor.scheme.describe());
  const at::Tensor& zeros = tensor.zero_points;
  return zeros.ne(zeros.round()) | zeros.lt(tensor.scheme.qmin()) | zeros.gt(tensor.scheme.qmax());
}

QuantizedTensor with_integer_zeros(QuantizedTensor tensor, bool symmetric) {
  const at::Tensor bad = symmetric ? tensor.zero_points.ne(0) : off_grid_zeros(tensor);
  LATHE_ASSERT(!bad.any().item<bool>(), "zero points of {} are no integers of a grid{}",
               tensor.scheme.describe(), symmetric ? " around 0" : "");
  tensor.scheme.real_zero = false;
  tensor.scheme.symmetric = symmetric;
  tensor.zero_points = symmetric ? at::Tensor() : tensor.zero_points.to(at::kChar);
  return tensor;
}

}  // namespace lathe
