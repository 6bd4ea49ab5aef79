#include "lib/numeric/outliers.h"

#include <ATen/ATen.h>

namespace lathe {

Outliers outliers_of(const at::Tensor& values) {
  const at::Tensor rounded = values.to(at::kHalf).to(at::kFloat), kept = rounded.ne(0);
  const at::Tensor places = kept.nonzero();  // row by row, columns ascending
  at::Tensor offsets = at::zeros({values.size(0) + 1}, values.options().dtype(at::kInt));
  offsets.slice(0, 1).copy_(kept.sum(1).cumsum(0));
  return {offsets, places.select(1, 1).to(at::kInt).contiguous(), rounded.masked_select(kept)};
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
