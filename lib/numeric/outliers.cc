#include "lib/numeric/outliers.h"

#include <ATen/ATen.h>

#include <vector>

#include "lib/numeric/quadratic_form.h"

namespace lathe {

Outliers outliers_of(const at::Tensor& values) {
  at::Tensor offsets = at::zeros({values.size(0) + 1}, values.options().dtype(at::kInt));
  std::vector<at::Tensor> columns, kept;
  const int64_t step = rows_per_chunk(values);
  for (int64_t row = 0; row < values.size(0); row += step) {
    const at::Tensor some = values.slice(0, row, row + step).to(at::kHalf), held = some.ne(0);
    offsets.slice(0, row + 1, row + 1 + some.size(0)).copy_(held.sum(1));
    // Row by row, columns ascending.
    columns.push_back(held.nonzero().select(1, 1).to(at::kInt));
    kept.push_back(some.masked_select(held).to(at::kFloat));
  }
  return {offsets.cumsum(0, at::kInt), at::cat(columns), at::cat(kept)};
}

Outliers Outliers::rows(int64_t begin, int64_t end) const {
  const at::Tensor offsets = row_offsets.slice(0, begin, end + 1);
  const int64_t first = offsets[0].item<int>(), last = offsets[end - begin].item<int>();
  return {offsets - first, columns.slice(0, first, last), values.slice(0, first, last)};
}

Outliers Outliers::cpu() const { return {row_offsets.cpu(), columns.cpu(), values.cpu()}; }

SecondLevel SecondLevel::cpu() const {
  return {scale_codes.cpu(), zero_codes.cpu(),  scale_scales.cpu(),
          scale_zeros.cpu(), zero_scales.cpu(), zero_zeros.cpu()};
}

void Outliers::add_to(const at::Tensor& matrix) const {
  const at::Tensor row = at::arange(matrix.size(0), row_offsets.options().dtype(at::kLong))
                             .repeat_interleave(row_offsets.diff().to(at::kLong));
  // No place stands twice, so the order of the sums is none.
  matrix.view({-1}).index_add_(0, row * matrix.size(1) + columns, values);
}

}  // namespace lathe
