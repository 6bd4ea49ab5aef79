#include "algorithms/spqr_reference.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "lib/base/error.h"

namespace lathe {
namespace {

using Rows = at::TensorAccessor<double, 2>;

/// value = scale * (code - zero).
struct Grid {
  double scale = 0, zero = 0;
};

double half(double value) {
  return static_cast<double>(static_cast<float>(at::Half(static_cast<float>(value))));
}

/// `fit_quantizer` of one group. The range reaches to 0, as it does in the paper's fit_statistics wherever a
/// group has an outlier (whose weight is set to 0 there): the zero then lies within the grid, whatever the
/// weights.
Grid fit_quantizer(const std::vector<double>& values, int bits) {
  double lo = 0, hi = 0;
  for (const double value : values) lo = std::min(lo, value), hi = std::max(hi, value);
  const double scale = (hi - lo) / ((1 << bits) - 1);
  return scale > 0 ? Grid{scale, -lo / scale} : Grid{0, 0};
}

double quantize(double value, const Grid& grid, int bits) {
  if (grid.scale == 0) return 0;
  return std::clamp(std::nearbyint(value / grid.scale + grid.zero), 0.0,
                    static_cast<double>((1 << bits) - 1));
}

double dequantize(double code, const Grid& grid) { return grid.scale * (code - grid.zero); }

/// `error`, summed over the group: squared, and divided by the pivots squared.
double error(const std::vector<double>& values, const std::vector<double>& pivots, int bits) {
  const Grid grid = fit_quantizer(values, bits);
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double e = (values[i] - dequantize(quantize(values[i], grid, bits), grid)) / pivots[i];
    sum += e * e;
  }
  return sum;
}

std::vector<double> without(std::vector<double> values, int64_t index) {
  values.erase(values.begin() + index);
  return values;
}

/// The second level: a block of statistics on a grid of its own, whose scale and zero are FP16 and whose
/// values are computed in FP16, as the consumer does. Where they are all (nearly) one value, that value.
void fit_second_level(std::vector<double*> values, int bits) {
  double lo = HUGE_VAL, hi = -HUGE_VAL;
  for (const double* value : values) lo = std::min(lo, *value), hi = std::max(hi, *value);
  const double top = (1 << bits) - 1;
  Grid grid{half((hi - lo) / top), 0};
  if (grid.scale == 0 || std::abs(lo) > kLargestScaleZero * grid.scale) {
    grid = {half((lo + hi) / 2), -1};
  } else {
    grid.zero = half(-lo / grid.scale);
  }
  for (double* value : values) {
    const double code = grid.zero == -1 ? 0 : quantize(*value, grid, bits);
    *value = half(half(code - grid.zero) * grid.scale);
  }
}

/// The columns' order, the weight and the factor in it: lines 1 to 3 of the algorithm. A dead column
/// (H_jj = 0) gets the mean of the others as H_jj, and no weight: the paper's code counts it in damping's
/// mean and then sets H_jj = 1, so that the result hangs on the unit of the inputs.
struct Setup {
  at::Tensor permutation, weight, factor;
};

Setup prepare(const at::Tensor& weight, const at::Tensor& hessian, const SpqrReferenceSettings& settings) {
  at::Tensor h = hessian.to(at::kDouble), w = weight.to(at::kDouble).clone();
  h = h.clone();
  const at::Tensor dead = h.diagonal() <= 0;
  if (dead.all().item<bool>()) h.diagonal().fill_(1);
  h.diagonal().masked_fill_(dead, h.diagonal().masked_select(dead.logical_not()).mean());
  w.masked_fill_(dead.unsqueeze(0), 0);
  at::Tensor order = at::arange(h.size(0), at::kLong);
  if (settings.act_order) order = h.diagonal().argsort(/*stable=*/true, 0, /*descending=*/true);
  h = h.index_select(0, order).index_select(1, order).contiguous();
  w = w.index_select(1, order).contiguous();
  h.diagonal().add_(settings.damping * h.diagonal().mean());
  const at::Tensor inverse = at::cholesky_inverse(at::linalg_cholesky(h));
  return {order, w, at::linalg_cholesky(inverse, /*upper=*/true).contiguous()};
}

class Reference {
 public:
  Reference(const Setup& setup, const SpqrReferenceSettings& settings)
      : settings_(settings),
        out_(setup.weight.size(0)),
        in_(setup.weight.size(1)),
        weight_(setup.weight),
        factor_(setup.factor) {
    LATHE_ASSERT(in_ % settings.group_size == 0, "group_size {} against {} columns", settings.group_size,
                 in_);
    const int64_t groups = in_ / settings.group_size;
    const at::TensorOptions real = weight_.options();
    result_ = {setup.permutation,
               at::zeros({out_, in_}, real.dtype(at::kLong)),
               at::zeros({out_, groups}, real),
               at::zeros({out_, groups}, real),
               at::zeros({out_, in_}, real),
               at::zeros({out_, in_}, real.dtype(at::kBool)),
               at::zeros({out_, in_}, real)};
  }

  SpqrReferenceResult solve() {
    for (int64_t first = 0; first < in_; first += settings_.group_size) {
      mark_outliers(first);
      fit_statistics(first);
      for (int64_t column = first; column < first + settings_.group_size; ++column) round_column(column);
    }
    const at::Tensor permuted =
        result_.scales.repeat_interleave(settings_.group_size, 1) *
            (result_.codes - result_.zeros.repeat_interleave(settings_.group_size, 1)) +
        result_.outliers;
    result_.values.index_copy_(1, result_.permutation, permuted);
    return result_;
  }

 private:
  /// `outliers`, line 8: the weights that the group's grid need not span.
  void mark_outliers(int64_t first) {
    if (settings_.rule == OutlierRule::error || std::isinf(settings_.threshold)) return;
    const int64_t end = first + settings_.group_size;
    const at::Tensor gain =
        spqr_leave_one_out_reference(weight_.slice(1, first, end).contiguous(),
                                     factor_.diagonal().slice(0, first, end).contiguous(), settings_.bits);
    result_.is_outlier.slice(1, first, end).copy_(gain > settings_.threshold);
  }

  /// `fit_statistics`, line 9.
  void fit_statistics(int64_t first) {
    const int64_t group = first / settings_.group_size;
    Rows scales = result_.scales.accessor<double, 2>(), zeros = result_.zeros.accessor<double, 2>();
    for (int64_t row = 0; row < out_; ++row) {
      std::vector<double> spanned;
      for (int64_t column = first; column < first + settings_.group_size; ++column) {
        if (!marked(row, column)) spanned.push_back(weight_[row][column].item<double>());
      }
      const Grid grid = fit_quantizer(spanned, settings_.bits);
      scales[row][group] = grid.scale;
      zeros[row][group] = grid.zero;
    }
    if (!settings_.scale_grid) return;
    const ScaleGrid& second = *settings_.scale_grid;
    for (Rows* statistic : {&scales, &zeros}) {
      for (int64_t row = 0; row < out_; row += second.rows) {
        std::vector<double*> block;
        for (int64_t r = row; r < row + second.rows; ++r) block.push_back(&(*statistic)[r][group]);
        fit_second_level(block, second.bits);
      }
    }
  }

  bool marked(int64_t row, int64_t column) const { return result_.is_outlier[row][column].item<bool>(); }

  /// Lines 11 to 15: rounds a column, and lets all columns after it make up for the error.
  void round_column(int64_t column) {
    const int64_t group = column / settings_.group_size;
    Rows weight = weight_.accessor<double, 2>(), factor = factor_.accessor<double, 2>();
    for (int64_t row = 0; row < out_; ++row) {
      const Grid grid{result_.scales[row][group].item<double>(), result_.zeros[row][group].item<double>()};
      const double w = weight[row][column], code = quantize(w, grid, settings_.bits);
      double value = dequantize(code, grid);
      const double lost = (w - value) / factor[column][column];
      if (settings_.rule != OutlierRule::leave_one_out) {
        result_.is_outlier[row][column].fill_(lost * lost > settings_.threshold);
      }
      if (marked(row, column)) {
        const double kept = half(w - value);
        result_.outliers[row][column].fill_(kept);
        value = w;  // but for FP16's rounding, which nothing makes up for
      }
      result_.codes[row][column].fill_(static_cast<int64_t>(code));
      const double e = (w - value) / factor[column][column];
      for (int64_t later = column + 1; later < in_; ++later) weight[row][later] -= e * factor[column][later];
    }
  }

  SpqrReferenceSettings settings_;
  int64_t out_, in_;
  at::Tensor weight_, factor_;
  SpqrReferenceResult result_;
};

}  // namespace

SpqrReferenceResult spqr_reference(const at::Tensor& weight, const at::Tensor& hessian,
                                   const SpqrReferenceSettings& settings) {
  return Reference(prepare(weight, hessian, settings), settings).solve();
}

at::Tensor spqr_leave_one_out_reference(const at::Tensor& group, const at::Tensor& pivots, int bits) {
  const double* const p = pivots.const_data_ptr<double>();
  const std::vector<double> all_pivots(p, p + pivots.numel());
  at::Tensor gain = at::empty_like(group);
  for (int64_t row = 0; row < group.size(0); ++row) {
    const double* const w = group[row].const_data_ptr<double>();
    const std::vector<double> values(w, w + group.size(1));
    const double base = error(values, all_pivots, bits);
    for (int64_t i = 0; i < group.size(1); ++i) {
      gain[row][i] = base - error(without(values, i), without(all_pivots, i), bits);
    }
  }
  return gain;
}

}  // namespace lathe
