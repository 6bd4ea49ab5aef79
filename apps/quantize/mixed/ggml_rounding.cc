#include "apps/quantize/mixed/ggml_rounding.h"

#include <ATen/ATen.h>

#include "lib/kernels/ggml_quant.h"

namespace lathe {

std::vector<SolveResult> GgmlRounding::solve(const SharedInputProblem& problem) const {
  std::vector<SolveResult> results;
  const at::Tensor measured = problem.stats->mean_square.cpu().contiguous();
  for (const LinearProblem& linear : problem.linears) {
    const at::Tensor weight = linear.weight.cpu().contiguous();
    const at::Tensor importance = given_.empty() ? measured : given_.at(linear.name);
    const at::Tensor blocks = kernels::quantize_ggml(linear.name, weight, type_, importance);
    QuantizedTensor result;
    result.scheme = Scheme::as_they_are();
    result.scale_dtype = linear.scale_dtype;
    result.values = kernels::dequantize_ggml(blocks, type_, weight.size(1)).to(linear.weight.device());
    results.push_back({std::move(result), {}});
  }
  return results;
}

Work GgmlRounding::work(const std::vector<int64_t>& rows, int64_t width, const Scheme&) const {
  Work work;
  for (const int64_t count : rows) work.roundings += static_cast<double>(count) * static_cast<double>(width);
  return work;
}

at::Tensor ggml_rounded(const std::string& name, const at::Tensor& rows, GgmlType type) {
  const at::Tensor values = rows.contiguous();
  return kernels::dequantize_ggml(kernels::quantize_ggml(name, values, type, {}), type, values.size(1));
}

}  // namespace lathe
