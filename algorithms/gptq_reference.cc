#include "algorithms/gptq_reference.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "lib/base/error.h"
#include "lib/kernels/group_grid.h"

namespace lathe {
namespace {

/// Row-major.
struct Matrix {
  int64_t rows, columns;
  std::vector<double> values;

  Matrix(int64_t r, int64_t c) : rows(r), columns(c), values(static_cast<size_t>(r * c)) {}
  explicit Matrix(const at::Tensor& tensor) : Matrix(tensor.size(0), tensor.size(1)) {
    const at::Tensor copy = tensor.to(at::kDouble).contiguous();
    std::copy_n(copy.const_data_ptr<double>(), copy.numel(), values.begin());
  }
  double& operator()(int64_t r, int64_t c) { return values[static_cast<size_t>(r * columns + c)]; }
  double operator()(int64_t r, int64_t c) const { return values[static_cast<size_t>(r * columns + c)]; }
};

/// L with A = L L^T.
Matrix cholesky(const Matrix& a) {
  Matrix l(a.rows, a.rows);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = a(i, j);
      for (int64_t k = 0; k < j; ++k) sum -= l(i, k) * l(j, k);
      if (i == j) LATHE_ASSERT(sum > 0, "GPTQ reference: the Hessian is not positive definite");
      l(i, j) = i == j ? std::sqrt(sum) : sum / l(j, j);
    }
  }
  return l;
}

/// (L L^T)^-1, column by column.
Matrix inverse_of(const Matrix& l) {
  const int64_t n = l.rows;
  Matrix inverse(n, n);
  std::vector<double> x(static_cast<size_t>(n));
  for (int64_t column = 0; column < n; ++column) {
    const auto at = [&](int64_t i) -> double& { return x[static_cast<size_t>(i)]; };
    for (int64_t i = 0; i < n; ++i) {  // L y = e
      double sum = i == column ? 1 : 0;
      for (int64_t k = 0; k < i; ++k) sum -= l(i, k) * at(k);
      at(i) = sum / l(i, i);
    }
    for (int64_t i = n - 1; i >= 0; --i) {  // L^T x = y
      double sum = at(i);
      for (int64_t k = i + 1; k < n; ++k) sum -= l(k, i) * at(k);
      at(i) = sum / l(i, i);
    }
    for (int64_t i = 0; i < n; ++i) inverse(i, column) = at(i);
  }
  return inverse;
}

using Order = std::vector<int64_t>;

Order falling(Order columns, const std::vector<double>& values) {
  std::stable_sort(columns.begin(), columns.end(), [&](int64_t a, int64_t b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  return columns;
}

Order order_of(ActOrder act_order, const std::vector<double>& diagonal, int64_t group) {
  Order natural(diagonal.size());
  std::iota(natural.begin(), natural.end(), 0);
  if (act_order == ActOrder::none) return natural;
  if (act_order == ActOrder::desc) return falling(natural, diagonal);
  std::vector<double> largest;
  for (size_t first = 0; first < diagonal.size(); first += static_cast<size_t>(group)) {
    const auto begin = diagonal.begin() + static_cast<std::ptrdiff_t>(first);
    largest.push_back(*std::max_element(begin, begin + group));
  }
  Order groups(largest.size()), order;
  std::iota(groups.begin(), groups.end(), 0);
  for (const int64_t g : falling(groups, largest)) {
    Order columns(static_cast<size_t>(group));
    std::iota(columns.begin(), columns.end(), g * group);
    for (const int64_t column : falling(columns, diagonal)) order.push_back(column);
  }
  return order;
}

/// The code of the number nearest to w, ties to the even one; beyond the largest, the largest. encode_float()
/// of an FP64 number.
uint8_t nearest_code(const FloatFormat& format, double w) {
  uint8_t nearest = 0;
  double least = std::abs(w);
  for (uint8_t code = 1; code < format.sign(); ++code) {
    const double number = decode_float(format, code), distance = std::abs(number - std::abs(w));
    if (!std::isfinite(number) || distance > least || (distance == least && code % 2 != 0)) continue;
    nearest = code;
    least = distance;
  }
  return std::signbit(w) ? nearest | format.sign() : nearest;
}

/// The state of algorithm 1 for one matrix.
class Reference {
 public:
  explicit Reference(const GptqReferenceProblem& problem)
      : p_(problem),
        w_(problem.weight),
        h_(problem.gram),
        length_(problem.scheme.group_length(w_.columns)),
        inverse_(0, 0),
        scales_(w_.rows, w_.columns / length_),
        zeros_(w_.rows, w_.columns / length_),
        codes_(w_.rows, w_.columns) {}

  GptqReferenceResult run() {
    treat_dead_columns();
    order_ = order_of(p_.act_order, diagonal_, length_);
    inverse_ = damped_inverse();
    if (p_.match_reference > 0) move_to_reference();
    if (p_.static_groups) choose_original_grids();
    const Matrix u = factor();
    Matrix w(w_.rows, w_.columns);  // in the order of rounding
    for (int64_t k = 0; k < w.columns; ++k) {
      for (int64_t row = 0; row < w.rows; ++row) w(row, k) = w_(row, column(k));
    }
    for (int64_t j = 0; j < w.columns; ++j) round_column(w, u, j);
    return {result(), loss_};
  }

 private:
  int64_t column(int64_t k) const { return order_[static_cast<size_t>(k)]; }
  bool regrouped() const { return p_.act_order == ActOrder::desc && !p_.static_groups; }
  int64_t group_of(int64_t k) const { return (regrouped() ? k : column(k)) / length_; }

  /// if H_jj = 0: H_jj = mean of the others, W_j = 0.
  void treat_dead_columns() {
    double sum = 0, live = 0;
    for (int64_t j = 0; j < h_.rows; ++j) {
      if (h_(j, j) > 0) sum += h_(j, j), ++live;
    }
    for (int64_t j = 0; j < h_.rows; ++j) {
      dead_.push_back(h_(j, j) <= 0);
      if (dead_.back()) {
        h_(j, j) = live > 0 ? sum / live : 1;
        for (int64_t row = 0; row < w_.rows; ++row) w_(row, j) = 0;
      }
      diagonal_.push_back(h_(j, j));
    }
  }

  /// (H + damping I)^-1, columns as they stand.
  Matrix damped_inverse() const {
    double mean = 0;
    for (const double value : diagonal_) mean += value / static_cast<double>(h_.rows);
    Matrix damped = h_;
    for (int64_t j = 0; j < h_.rows; ++j) damped(j, j) += p_.damping * mean;
    return inverse_of(cholesky(damped));
  }

  /// H^-1 <- Cholesky(H^-1)^T, in the order of rounding.
  Matrix factor() const {
    const int64_t n = h_.rows;
    Matrix inverse(n, n), upper(n, n);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) inverse(i, j) = inverse_(column(i), column(j));
    }
    const Matrix lower = cholesky(inverse);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = i; j < n; ++j) upper(i, j) = lower(j, i);
    }
    return upper;
  }

  /// W += a W (X_ref - X)^T X H^-1, row by row; dead columns stay 0.
  void move_to_reference() {
    const Matrix cross(p_.cross_gram);
    const int64_t n = h_.rows;
    std::vector<double> missed(static_cast<size_t>(n));
    for (int64_t row = 0; row < w_.rows; ++row) {
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t i = 0; i < n; ++i) sum += w_(row, i) * (cross(i, j) - h_(i, j));
        missed[static_cast<size_t>(j)] = dead_[static_cast<size_t>(j)] ? 0 : sum;
      }
      for (int64_t j = 0; j < n; ++j) {
        double move = 0;
        for (int64_t i = 0; i < n; ++i) move += missed[static_cast<size_t>(i)] * inverse_(i, j);
        w_(row, j) += p_.match_reference * move;
      }
    }
  }

  double importance(int64_t j) const {
    return p_.range == GptqReferenceRange::inverse ? 1 / inverse_(j, j) : diagonal_[static_cast<size_t>(j)];
  }

  void choose_original_grids() {
    for (int64_t row = 0; row < w_.rows; ++row) {
      for (int64_t group = 0; group < scales_.columns; ++group) {
        std::vector<double> values, weighted_by;
        for (int64_t j = group * length_; j < (group + 1) * length_; ++j) {
          values.push_back(w_(row, j));
          weighted_by.push_back(importance(j));
        }
        set_grid(row, group, values, weighted_by);
      }
    }
  }

  /// Of the group whose columns are rounded from the j-th on, from the weights as they are by then.
  void choose_grid_on_the_way(const Matrix& w, int64_t row, int64_t j) {
    std::vector<double> values, weighted_by;
    for (int64_t k = j; k < j + length_; ++k) {
      values.push_back(w(row, k));
      weighted_by.push_back(importance(column(k)));
    }
    set_grid(row, group_of(j), values, weighted_by);
  }

  void set_grid(int64_t row, int64_t group, const std::vector<double>& values,
                const std::vector<double>& weighted_by) {
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    kernels::RangeEnds ends{static_cast<float>(*least), static_cast<float>(*most)};
    if (p_.range != GptqReferenceRange::minmax)
      ends = kernels::search_group_reference(values, weighted_by, p_.scheme, p_.scale_dtype, p_.search);
    const device::ScaleZero chosen = device::choose_scale_zero(
        ends.lo, ends.hi, kernels::grid_under(p_.scheme, p_.scale_dtype, p_.global));
    scales_(row, group) = chosen.scale;
    zeros_(row, group) = chosen.zero;
  }

  void round_column(Matrix& w, const Matrix& u, int64_t j) {
    const int64_t group = group_of(j);
    for (int64_t row = 0; row < w.rows; ++row) {
      if (!p_.static_groups && j % length_ == 0) choose_grid_on_the_way(w, row, j);
      const auto [code, value] = quantized(w(row, j), row, group);
      const double error = (w(row, j) - value) / u(j, j);
      for (int64_t k = j + 1; k < w.columns; ++k) w(row, k) -= error * u(j, k);
      codes_(row, column(j)) = code;
      loss_ += error * error;
    }
  }

  /// quant(w): the code, and what it stands for.
  std::pair<double, double> quantized(double w, int64_t row, int64_t group) const {
    if (const FloatGridType* const grid = p_.scheme.float_grid()) {
      const float under = p_.global.defined() ? p_.global.item<float>() : 1.0f;
      const double scale = static_cast<float>(scales_(row, group)) * under;
      const uint8_t code = nearest_code(grid->number, w / scale);
      return {static_cast<int8_t>(code), scale * decode_float(grid->number, code)};
    }
    const double qmin = p_.scheme.qmin(), qmax = p_.scheme.qmax();
    const double scale = scales_(row, group), zero = zeros_(row, group);
    const double code = std::clamp(std::nearbyint(w / scale) + zero, qmin, qmax);  // ties to even, by default
    return {code, scale * (code - zero)};
  }

  static at::Tensor tensor_of(const Matrix& matrix, at::ScalarType type) {
    at::Tensor tensor = at::empty({matrix.rows, matrix.columns}, at::kDouble);
    std::copy(matrix.values.begin(), matrix.values.end(), tensor.data_ptr<double>());
    return tensor.to(type);
  }

  QuantizedTensor result() const {
    QuantizedTensor quantized{p_.scheme, p_.scheme.scale_type(p_.scale_dtype), tensor_of(codes_, at::kChar),
                              tensor_of(scales_, at::kFloat),
                              p_.scheme.symmetric ? at::Tensor() : tensor_of(zeros_, at::kChar)};
    quantized.global_scale = p_.global;
    if (!regrouped() || length_ == w_.columns) return quantized;
    quantized.group_index = at::empty({w_.columns}, at::kInt);
    for (int64_t k = 0; k < w_.columns; ++k) quantized.group_index[column(k)] = group_of(k);
    return quantized;
  }

  const GptqReferenceProblem& p_;
  Matrix w_, h_;
  int64_t length_;
  Matrix inverse_, scales_, zeros_, codes_;
  std::vector<double> diagonal_;
  std::vector<bool> dead_;
  Order order_;
  double loss_ = 0;
};

}  // namespace

GptqReferenceResult gptq_reference(const GptqReferenceProblem& problem) { return Reference(problem).run(); }

}  // namespace lathe
