#include "lib/numeric/quadratic_form.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "lib/base/checked.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr int64_t kPanelWidth = 512;
constexpr int64_t kChunkElementsCpu = int64_t{1} << 21;   // 8 MiB of FP32
constexpr int64_t kChunkElementsCuda = int64_t{1} << 26;  // 256 MiB

}  // namespace

QuadraticForm::QuadraticForm(const at::Tensor& gram) {
  LATHE_ASSERT(gram.dim() == 2 && gram.size(0) == gram.size(1) && gram.scalar_type() == at::kFloat,
               "a Gram matrix is FP32 and square");
  const int64_t width = gram.size(0);
  const int64_t step = ceil_div(width, std::max<int64_t>(1, ceil_div(width, kPanelWidth)));
  for (int64_t begin = 0; begin < width; begin += step) {
    const int64_t end = std::min(begin + step, width);
    at::Tensor upper = gram.slice(0, 0, end).slice(1, begin, end).clone(at::MemoryFormat::Contiguous);
    upper.slice(0, 0, begin).mul_(2);  // stands for its mirror image below the diagonal, too; exact
    panels_.push_back({begin, end, upper});
  }
}

double QuadraticForm::operator()(const at::Tensor& d) const { return on_device(d).item<double>(); }

at::Tensor QuadraticForm::on_device(const at::Tensor& d) const {
  LATHE_ASSERT(d.dim() == 2 && !panels_.empty() && d.size(1) == panels_.back().end,
               "tr(D H D^T): D has {} columns", d.size(-1));
  at::Tensor total = at::zeros({}, d.options().dtype(at::kDouble));
  for (const Panel& panel : panels_) {
    at::Tensor product = at::mm(d.slice(1, 0, panel.end), panel.upper);
    product.mul_(d.slice(1, panel.begin, panel.end));
    total += product.sum(1).sum(at::kDouble);
  }
  return total;
}

int64_t rows_per_chunk(const at::Tensor& matrix) {
  const int64_t elements = matrix.is_cpu() ? kChunkElementsCpu : kChunkElementsCuda;
  return std::max<int64_t>(1, elements / std::max<int64_t>(1, matrix.size(1)));
}

}  // namespace lathe
