#include "algorithms/spqr_columns.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "algorithms/spqr_fit.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/kernels/spqr_group.h"
#include "lib/numeric/quadratic_form.h"
#include "lib/tensor/matrix_product.h"

namespace lathe {
namespace {

SecondLevel empty_level(int64_t rows, int64_t groups, const ScaleGrid& grid, const at::TensorOptions& on) {
  const auto codes = [&] { return at::empty({rows, groups}, on.dtype(at::kByte)); };
  const auto statistics = [&] { return at::empty({rows / grid.rows, groups}, on.dtype(at::kFloat)); };
  return {codes(), codes(), statistics(), statistics(), statistics(), statistics()};
}

class GroupLoop {
 public:
  explicit GroupLoop(SpqrProblem problem)
      : p_(std::move(problem)),
        rows_(p_.weight.size(0)),
        in_(p_.weight.size(1)),
        length_(p_.scheme.group_length(in_)),
        inverse_pivots_(p_.factor.diagonal().reciprocal()),
        marks_(p_.rule != OutlierRule::error && at::isfinite(p_.thresholds).any().item<bool>()) {
    const at::TensorOptions on = p_.weight.options();
    const int64_t groups = in_ / length_;
    result_ = {at::empty({rows_, in_}, on.dtype(at::kByte)),
               p_.weight,  // whose columns are read no more once they are rounded
               at::empty({rows_, groups}, on.dtype(at::kFloat)),
               at::empty({rows_, groups}, on.dtype(at::kFloat)),
               empty_level(rows_, groups, *p_.scheme.scale_grid, on),
               at::zeros({rows_}, on.dtype(at::kDouble))};
    // The paper keeps what it marks; else marks only say what the grid need not span.
    limits_ = p_.rule == OutlierRule::leave_one_out ? at::full_like(p_.thresholds, HUGE_VAL) : p_.thresholds;
    block_ = std::max<int64_t>(p_.block_size / length_, 1) * length_;
    errors_ = at::empty({rows_, std::min(block_, in_)}, on);
  }

  SpqrColumns run() {
    for (int64_t first = 0; first < in_; first += block_) {
      throw_if_cancelled();
      const int64_t end = std::min(in_, first + block_);
      for (int64_t column = first; column < end; column += length_) round_group(first, column, end);
      const at::Tensor errors = errors_.slice(1, 0, end - first);
      if (end < in_) add_matrix_product(columns(end, in_), errors, factor(first, end, end, in_), -1);
      at::Tensor squares = errors.to(at::kDouble, /*non_blocking=*/false, /*copy=*/true).square_();
      result_.loss += squares.sum(1);
    }
    return std::move(result_);
  }

 private:
  at::Tensor columns(int64_t first, int64_t end) const { return p_.weight.slice(1, first, end); }
  at::Tensor factor(int64_t row, int64_t row_end, int64_t column, int64_t column_end) const {
    return p_.factor.slice(0, row, row_end).slice(1, column, column_end);
  }

  /// Bool [rows, length]: what the group's grid need not span.
  at::Tensor marked(const at::Tensor& group, int64_t first) const {
    if (!marks_) return {};
    const at::Tensor gain =
        spqr_leave_one_out(group, inverse_pivots_.slice(0, first, first + length_), p_.scheme.bits);
    return gain > p_.thresholds.unsqueeze(1);
  }

  void round_group(int64_t block, int64_t first, int64_t block_end) {
    const int64_t end = first + length_, index = first / length_;
    const at::Tensor group = columns(first, end).contiguous(), marks = marked(group, first);
    SpqrGrid grid = spqr_fit(group, marks, p_.scheme.bits);
    spqr_second_level(grid, *p_.scheme.scale_grid, index, result_.level);
    result_.scales.select(1, index).copy_(grid.scales);
    result_.zeros.select(1, index).copy_(grid.zeros);
    const at::Tensor errors = errors_.slice(1, first - block, end - block);
    kernels::spqr_group({.weight = group,
                         .factor = factor(first, end, first, end),
                         .scales = grid.scales,
                         .zeros = grid.zeros,
                         .thresholds = limits_,
                         .marked = p_.rule == OutlierRule::leave_one_out ? marks : at::Tensor(),
                         .codes = result_.codes.slice(1, first, end),
                         .errors = errors,
                         .kept = result_.kept.slice(1, first, end)},
                        p_.scheme.bits);
    if (end < block_end)
      add_matrix_product(columns(end, block_end), errors, factor(first, end, end, block_end), -1);
  }

  SpqrProblem p_;
  int64_t rows_, in_, length_, block_ = 0;
  at::Tensor inverse_pivots_, limits_, errors_;
  bool marks_;
  SpqrColumns result_;
};

/// The `count` largest of all values, which are looked at a few at a time: to order them all would take three
/// times their memory.
class Largest {
 public:
  explicit Largest(int64_t count) : count_(count) {}
  void add(const at::Tensor& values) {
    waiting_.push_back(values.flatten());
    size_ += values.numel();
    if (size_ >= 2 * count_ + kValues) select();
  }
  double least() {
    select();
    return std::get<0>(waiting_.front().kthvalue(1)).item<double>();
  }

 private:
  static constexpr int64_t kValues = 1 << 20;

  void select() {
    at::Tensor all = at::cat(waiting_);
    if (all.numel() > count_) all = std::get<0>(all.topk(count_, 0, /*largest=*/true, /*sorted=*/false));
    waiting_ = {all};
    size_ = all.numel();
  }

  int64_t count_, size_ = 0;
  std::vector<at::Tensor> waiting_;
};

}  // namespace

SpqrColumns spqr_columns(SpqrProblem problem) {
  LATHE_ASSERT(problem.weight.is_contiguous() && problem.factor.size(0) == problem.weight.size(1) &&
                   problem.factor.scalar_type() == problem.weight.scalar_type() &&
                   problem.thresholds.numel() == problem.weight.size(0) && problem.scheme.scale_grid &&
                   problem.scheme.divides(problem.weight.size(1)),
               "SpQR columns: weight, factor, thresholds and scheme don't fit");
  return GroupLoop(std::move(problem)).run();
}

double spqr_loss_scale(const at::Tensor& weight, const at::Tensor& factor) {
  // One row has no variance: its squares stand in.
  const at::Tensor spread =
      weight.size(0) > 1 ? weight.to(at::kDouble).var(0) : weight.to(at::kDouble).square()[0];
  return (spread / factor.diagonal().to(at::kDouble).square()).mean().item<double>();
}

double spqr_threshold(const at::Tensor& weight, const at::Tensor& factor, const Scheme& scheme,
                      double density) {
  const int64_t in = weight.size(1), length = scheme.group_length(in);
  const auto above = static_cast<int64_t>(std::llround(density * static_cast<double>(weight.numel())));
  if (above < 1) return HUGE_VAL;
  const at::Tensor inverse_pivots = factor.diagonal().reciprocal();
  Largest gains(std::min(above + 1, weight.numel()));  // the least of these is the largest that is not kept
  for (int64_t first = 0; first < in; first += length) {
    throw_if_cancelled();
    gains.add(spqr_leave_one_out(weight.slice(1, first, first + length).contiguous(),
                                 inverse_pivots.slice(0, first, first + length), scheme.bits));
  }
  return gains.least();
}

}  // namespace lathe
