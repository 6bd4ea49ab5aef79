#include "calib/sensitivity/loss_gradients.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/kernels/dequantize.h"
#include "lib/kernels/input_quant.h"
#include "lib/model/block_gradient.h"
#include "lib/tensor/matrix_product.h"

namespace lathe {
namespace {

StoreSpec spec_of(const SensitivityJob& job, int64_t blocks) {
  return store_spec(job.gradients, job.held_out.size(0) * blocks, job.held_out.size(1),
                    job.calibration.graph->config.hidden_size, job.calibration.device);
}

/// Q(x) W_q^T - x W^T, [n, out].
at::Tensor output_error(const at::Tensor& x, const at::Tensor& weight, const QuantizedTensor& quantized) {
  const at::Tensor rounded = kernels::dequantize(quantized).to(weight.device());
  if (!quantized.input) return linear_product(x, rounded - weight, at::Tensor());
  return linear_product(kernels::fake_quantize_input(x, *quantized.input), rounded, at::Tensor()) -
         linear_product(x, weight, at::Tensor());
}

}  // namespace

int64_t gradient_states(const SensitivityJob& job) {
  if (!job.estimate) return 0;
  return job.held_out.size(0) * (static_cast<int64_t>(job.calibration.graph->blocks.size()) + 1);
}

uint64_t gradient_work_bytes(const SensitivityJob& job) {
  if (!job.estimate) return 0;
  return block_gradient_bytes(*job.calibration.graph, job.held_out.size(1));
}

LossGradients::LossGradients(const SensitivityJob& job)
    : job_(job),
      passes_{.graph = job.calibration.graph,
              .weights = job.calibration.weights,
              .ids = job.held_out,
              .lengths = job.held_out_lengths,
              .device = job.calibration.device,
              .compute = job.calibration.compute},
      rope_(rope_tables(job.calibration.graph->config, job.held_out.size(1), job.calibration.device)),
      states_(spec_of(job, static_cast<int64_t>(job.calibration.graph->blocks.size()))) {
  ActivationStore current(spec_of(job, 1));
  pass_loss_back(passes_, states_, current,
                 [](const BlockGradient&, const at::Tensor& after) { return after; });
}

void LossGradients::add(int64_t row, const Block& block, const BlockWeights& weights,
                        const at::Tensor& hidden, const std::vector<const TrialGroup*>& groups,
                        const std::map<std::string, std::vector<TrialOutcome>>& made,
                        std::vector<std::vector<EstimateSums>>& sums) {
  const BlockGradient pass =
      block_gradient(job_.calibration.graph->config, block, weights, rope_, hidden,
                     states_.read(place_of(passes_, static_cast<size_t>(block.index), row)));
  std::map<std::string, const LinearGradient*> of;
  for (const LinearGradient& one : pass.linears) of[one.linear->name] = &one;
  for (size_t i = 0; i < groups.size(); ++i) {
    for (size_t k = 0; k < groups[i]->trials.size(); ++k) {
      throw_if_cancelled();
      const auto count = static_cast<int64_t>(groups[i]->linears.size());
      at::Tensor moved = at::zeros({hidden.size(1)}, hidden.options());  // of the loss, by token
      // Squares of each linear's part of that, and of all; read together, for a GPU is waited for.
      at::Tensor squares = at::zeros({count + 1}, hidden.options().dtype(at::kDouble));
      for (size_t j = 0; j < groups[i]->linears.size(); ++j) {
        const auto found = of.find(block.linears[groups[i]->linears[j]].name);
        if (found == of.end()) continue;  // an expert that no token was sent to
        const LinearGradient& one = *found->second;
        const at::Tensor error =
            output_error(one.input, weights.weight(*one.linear), made.at(one.linear->name)[k].quantized);
        const at::Tensor by_itself = (error * one.gradient).sum(1);
        squares[static_cast<int64_t>(j)] = by_itself.square().sum(at::kDouble);
        moved.index_add_(0, one.tokens, by_itself);
      }
      squares[count] = moved.square().sum(at::kDouble);
      const at::Tensor read = squares.cpu();
      const auto* const values = read.const_data_ptr<double>();
      for (size_t j = 0; j < groups[i]->linears.size(); ++j) sums[i][k].linears[j] += 0.5 * values[j];
      sums[i][k].group += 0.5 * values[count];
    }
  }
}

}  // namespace lathe
