#include "lib/numeric/distortion.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "lib/base/error.h"
#include "lib/numeric/quadratic_form.h"

namespace lathe {
namespace {

double ratio(double error, double reference) {
  if (error == 0) return 0;
  return reference == 0 ? std::numeric_limits<double>::infinity() : error / reference;
}

double sum_of_squares(const at::Tensor& values) {
  return values.square().sum(1).sum(at::kDouble).item<double>();
}

}  // namespace

Distortion measure_distortion(const at::Tensor& weight, const at::Tensor& approximation,
                              const at::Tensor& gram) {
  LATHE_ASSERT(weight.dim() == 2 && weight.sizes() == approximation.sizes(), "distortion: the shapes differ");
  std::optional<QuadraticForm> form;
  if (gram.defined()) form.emplace(gram);
  double error = 0, reference = 0, output_error = 0, output_reference = 0, max_abs = 0;
  const int64_t step = rows_per_chunk(weight);
  for (int64_t row = 0; row < weight.size(0); row += step) {
    const at::Tensor original = weight.slice(0, row, row + step);
    const at::Tensor delta = approximation.slice(0, row, row + step) - original;
    error += sum_of_squares(delta);
    reference += sum_of_squares(original);
    const double largest = delta.abs().max().item<double>();
    if (largest > max_abs || std::isnan(largest)) max_abs = largest;
    if (!form) continue;
    output_error += (*form)(delta);
    output_reference += (*form)(original);
  }
  Distortion result{ratio(error, reference), max_abs, std::nullopt};
  if (form) result.output_relative_error = ratio(output_error, output_reference);
  return result;
}

}  // namespace lathe
