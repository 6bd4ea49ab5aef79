#include "algorithms/gptq_columns.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/kernels/gptq_block.h"
#include "lib/tensor/matrix_product.h"

namespace lathe {
namespace {

class ColumnLoop {
 public:
  explicit ColumnLoop(ColumnProblem problem)
      : p_(std::move(problem)), in_(p_.weight.size(1)), length_(p_.scheme.group_length(in_)) {
    if (p_.whole == 0) p_.whole = p_.weight.size(0);
    steps_ = {kernels::steps_of(p_.params), p_.params.zero_points};
    codes_ = at::empty(p_.weight.sizes(), p_.weight.options().dtype(at::kChar));
    errors_ = at::empty({p_.weight.size(0), std::min(in_, p_.block_size)}, p_.weight.options());
    loss_ = at::zeros({p_.weight.size(0)}, p_.weight.options().dtype(at::kDouble));
  }

  RoundedColumns run() {
    for (int64_t first = 0, end = 0; first < in_; first = end) {
      throw_if_cancelled();
      end = block_end(first);
      round_block(first, end);
    }
    return {codes_, p_.params, loss_};
  }

 private:
  at::Tensor columns(int64_t first, int64_t end) const { return p_.weight.slice(1, first, end); }
  at::Tensor factor(int64_t row, int64_t row_end, int64_t column, int64_t column_end) const {
    return p_.factor.slice(0, row, row_end).slice(1, column, column_end);
  }

  /// Where grids are chosen on the way, a group's weights must all be up to date when its first column is
  /// reached: a block holds whole groups, or a part of one.
  int64_t block_end(int64_t first) const {
    const int64_t end = std::min(in_, first + p_.block_size);
    if (!p_.grid) return end;
    const int64_t group_end = (first / length_ + 1) * length_;
    return end < group_end ? end : end / length_ * length_;
  }

  int64_t segment_end(int64_t first, int64_t end) const {
    const int64_t most = std::min(end, first + kernels::kGptqColumns);
    return p_.grid ? std::min(most, (first / length_ + 1) * length_) : most;
  }

  void round_block(int64_t first, int64_t end) {
    for (int64_t column = first, next = 0; column < end; column = next) {
      next = segment_end(column, end);
      if (p_.grid && column % length_ == 0) choose_grid(column);
      const at::Tensor errors = errors_.slice(1, column - first, next - first);
      kernels::gptq_block(columns(column, next), factor(column, next, column, next), steps_,
                          p_.column_group.slice(0, column, next), p_.scheme, codes_.slice(1, column, next),
                          errors);
      if (next < end) update(columns(next, end), errors, factor(column, next, next, end));
    }
    const at::Tensor errors = errors_.slice(1, 0, end - first);
    if (end < in_) update(columns(end, in_), errors, factor(first, end, end, in_));
    loss_ += errors.to(at::kDouble).square().sum(1);
  }

  void update(const at::Tensor& weights, const at::Tensor& errors, const at::Tensor& factor) const {
    add_matrix_product_of_rows(weights, errors, factor, -1, p_.whole);
  }

  void choose_grid(int64_t column) {
    const at::Tensor weights = columns(column, column + length_).to(at::kFloat).contiguous();
    const kernels::GroupParams chosen = p_.grid(weights, column);
    const int64_t group = p_.column_group[column].item<int>();
    p_.params.scales.select(1, group).copy_(chosen.scales.view({-1}));
    if (chosen.global.defined())  // else the steps are the scales
      steps_.scales.select(1, group).copy_(kernels::steps_of(chosen).view({-1}));
    if (chosen.zero_points.defined())
      p_.params.zero_points.select(1, group).copy_(chosen.zero_points.view({-1}));
  }

  ColumnProblem p_;
  int64_t in_, length_;
  kernels::GroupParams steps_;  // what weights are divided by
  at::Tensor codes_, errors_, loss_;
};

}  // namespace

RoundedColumns round_columns(ColumnProblem problem) {
  LATHE_ASSERT(problem.weight.is_contiguous() && problem.factor.size(0) == problem.weight.size(1) &&
                   problem.factor.scalar_type() == problem.weight.scalar_type() &&
                   problem.column_group.numel() == problem.weight.size(1) && problem.block_size > 0,
               "GPTQ columns: weight, factor and groups don't fit");
  return ColumnLoop(std::move(problem)).run();
}

}  // namespace lathe
