#include "lib/numeric/quadratic_form.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/tensor/matrix_product.h"

namespace lathe {
namespace {

constexpr int64_t kPanelWidth = 512;
constexpr int64_t kChunkElementsCpu = int64_t{1} << 21;   // 8 MiB of FP32
constexpr int64_t kChunkElementsCuda = int64_t{1} << 26;  // 256 MiB

}  // namespace

QuadraticForm::QuadraticForm(const at::Tensor& gram) : gram_(gram) {
  LATHE_ASSERT(gram.dim() == 2 && gram.size(0) == gram.size(1) && gram.scalar_type() == at::kFloat,
               "a Gram matrix is FP32 and square");
  const int64_t width = gram.size(0);
  const int64_t step = ceil_div(width, std::max<int64_t>(1, ceil_div(width, kPanelWidth)));
  for (int64_t end = step; end < width; end += step) ends_.push_back(end);
  ends_.push_back(width);
}

double QuadraticForm::operator()(const at::Tensor& d) const { return on_device(d).item<double>(); }

at::Tensor QuadraticForm::on_device(const at::Tensor& d) const {
  LATHE_ASSERT(d.dim() == 2 && d.size(1) == ends_.back(), "tr(D H D^T): D has {} columns", d.size(-1));
  at::Tensor total = at::zeros({}, d.options().dtype(at::kDouble));
  at::Tensor left = d.clone();  // its columns before the panel are doubled (exactly)
  int64_t begin = 0;
  for (const int64_t end : ends_) {
    at::Tensor product = matrix_product(left.slice(1, 0, end), gram_.slice(0, 0, end).slice(1, begin, end));
    product.mul_(d.slice(1, begin, end));
    total += product.sum(1).sum(at::kDouble);
    // From now on what is above the panel stands for its mirror image below the diagonal, too.
    left.slice(1, begin, end).mul_(2);
    begin = end;
  }
  return total;
}

int64_t rows_per_chunk(const at::Tensor& matrix) {
  const int64_t elements = matrix.is_cpu() ? kChunkElementsCpu : kChunkElementsCuda;
  return std::max<int64_t>(1, elements / std::max<int64_t>(1, matrix.size(1)));
}

}  // namespace lathe
