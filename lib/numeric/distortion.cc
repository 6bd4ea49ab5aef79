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

at::Tensor sum_of_squares(const at::Tensor& values) { return values.square().sum(1).sum(at::kDouble); }

}  // namespace

Distortion DistortionSums::read() const {
  const at::Tensor found = values.cpu();
  const double* const sums = found.const_data_ptr<double>();
  Distortion result{ratio(sums[0], sums[1]), sums[4], std::nullopt};
  if (output) result.output_relative_error = ratio(sums[2], sums[3]);
  return result;
}

DistortionSums::Totals DistortionSums::totals() const {
  const at::Tensor found = values.cpu();
  const double* const sums = found.const_data_ptr<double>();
  return {sums[0], sums[1], sums[2], sums[3]};
}

Distortion measure_distortion(const at::Tensor& weight, const at::Tensor& approximation,
                              const at::Tensor& gram) {
  LATHE_ASSERT(weight.dim() == 2 && weight.sizes() == approximation.sizes(), "distortion: the shapes differ");
  const auto rows = [&](int64_t begin, int64_t end) { return approximation.slice(0, begin, end); };
  return distortion_sums(weight, rows, gram).read();
}

Distortion measure_distortion(const at::Tensor& weight, const QuantizedTensor& quantized,
                              const at::Tensor& gram) {
  return distortion_sums(weight, quantized, gram).read();
}

DistortionSums distortion_sums(const at::Tensor& weight, const QuantizedTensor& quantized,
                               const at::Tensor& gram) {
  LATHE_ASSERT(weight.dim() == 2 && weight.size(0) == quantized.rows() && weight.size(1) == quantized.cols(),
               "distortion: the shapes differ");
  return distortion_sums(
      weight, [&](int64_t begin, int64_t end) { return quantized.dequantize_rows(begin, end); }, gram);
}

DistortionSums distortion_sums(const at::Tensor& weight, const MatrixRows& rows, const at::Tensor& gram) {
  std::optional<QuadraticForm> form;
  if (gram.defined()) form.emplace(gram);
  at::Tensor sums = at::zeros({4}, weight.options().dtype(at::kDouble));
  at::Tensor max_abs = at::zeros({1}, sums.options());
  const at::Tensor none = at::zeros({}, sums.options());
  const int64_t step = rows_per_chunk(weight);
  for (int64_t row = 0; row < weight.size(0); row += step) {
    const at::Tensor original = weight.slice(0, row, row + step);
    const at::Tensor delta = rows(row, row + original.size(0)) - original;
    sums += at::stack({sum_of_squares(delta), sum_of_squares(original), form ? form->on_device(delta) : none,
                       form ? form->on_device(original) : none});
    max_abs = at::maximum(max_abs, delta.abs().max().to(at::kDouble));  // a NaN stays
  }
  return {at::cat({sums, max_abs}), form.has_value()};
}

}  // namespace lathe
