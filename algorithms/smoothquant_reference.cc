#include "algorithms/smoothquant_reference.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "lib/base/error.h"

namespace lathe {
namespace {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

Rows rows_of(const at::Tensor& matrix) {
  const at::Tensor values = matrix.to(at::kDouble).contiguous();
  const double* next = values.const_data_ptr<double>();
  Rows rows;
  for (int64_t r = 0; r < values.size(0); ++r, next += values.size(1))
    rows.emplace_back(next, next + values.size(1));
  return rows;
}

double largest_magnitude(const Rows& rows, size_t column) {
  double largest = 0;
  for (const Row& row : rows) largest = std::max(largest, std::abs(row[column]));
  return largest;
}

/// The integers from qmin to qmax, spread over [low, high] with 0 among the values.
struct Levels {
  double scale, zero, qmin, qmax;

  Levels(double low, double high, double qmin_, double qmax_, bool symmetric)
      : scale(0), zero(0), qmin(qmin_), qmax(qmax_) {
    low = std::min(low, 0.0), high = std::max(high, 0.0);
    scale = (symmetric ? 2 * std::max(-low, high) : high - low) / (qmax - qmin);
    if (scale == 0) scale = 1;
    if (!symmetric) zero = std::nearbyint(std::clamp(qmin - low / scale, qmin, qmax));
  }
  double nearest(double x) const {
    return scale * (std::nearbyint(std::clamp(x / scale + zero, qmin, qmax)) - zero);
  }
};

void round_row(Row& row, const Levels& levels) {
  for (double& value : row) value = levels.nearest(value);
}

Levels levels_of(const Row& row, int qmin, int qmax, bool symmetric) {
  const auto [low, high] = std::ranges::minmax_element(row);
  return {*low, *high, static_cast<double>(qmin), static_cast<double>(qmax), symmetric};
}

Rows rounded_weights(Rows rows, const Scheme& scheme) {
  for (Row& row : rows) round_row(row, levels_of(row, scheme.qmin(), scheme.qmax(), true));
  return rows;
}

Rows rounded_activations(Rows rows, const ActivationScheme& scheme) {
  if (scheme.dynamic) {
    for (Row& row : rows) round_row(row, levels_of(row, scheme.qmin(), scheme.qmax(), scheme.symmetric));
    return rows;
  }
  Row all;
  for (const Row& row : rows) all.insert(all.end(), row.begin(), row.end());
  const Levels levels = levels_of(all, scheme.qmin(), scheme.qmax(), scheme.symmetric);
  for (Row& row : rows) round_row(row, levels);
  return rows;
}

double dot(const Row& a, const Row& b) {
  double sum = 0;
  for (size_t j = 0; j < a.size(); ++j) sum += a[j] * b[j];
  return sum;
}

}  // namespace

at::Tensor smoothquant_scales_reference(const at::Tensor& x, const at::Tensor& weight, double alpha) {
  const Rows activations = rows_of(x), weights = rows_of(weight);
  at::Tensor scales = at::empty({weight.size(1)}, at::kDouble);
  auto s = scales.accessor<double, 1>();
  for (int64_t j = 0; j < weight.size(1); ++j) {
    const auto column = static_cast<size_t>(j);
    s[j] = std::pow(largest_magnitude(activations, column), alpha) /
           std::pow(largest_magnitude(weights, column), 1 - alpha);
  }
  return scales;
}

double w8a8_error_reference(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales,
                            const Scheme& weights, const ActivationScheme& scheme) {
  LATHE_ASSERT(weights.group_size == -1 && weights.symmetric, "one symmetric scale for each row of weights");
  const Rows original = rows_of(x), rows = rows_of(weight);
  const Rows smooth = rounded_activations(rows_of(x.to(at::kDouble) / scales), scheme);
  const Rows scaled = rounded_weights(rows_of(weight.to(at::kDouble) * scales), weights);
  double error = 0;
  for (size_t t = 0; t < original.size(); ++t) {
    for (size_t o = 0; o < rows.size(); ++o) {
      const double difference = dot(smooth[t], scaled[o]) - dot(original[t], rows[o]);
      error += difference * difference;
    }
  }
  return error / static_cast<double>(original.size());
}

}  // namespace lathe
