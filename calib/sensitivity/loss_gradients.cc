#include "calib/sensitivity/loss_gradients.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>

#include "lib/activations/embed_samples.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/eval/drawn_labels.h"
#include "lib/kernels/dequantize.h"
#include "lib/kernels/input_quant.h"
#include "lib/model/block_gradient.h"
#include "lib/tensor/matrix_product.h"

namespace lathe {
namespace {

constexpr uint64_t kLabelSeed = 0x5eed;

int64_t held_out_length(const SensitivityJob& job, int64_t row) {
  return job.held_out_lengths.empty() ? job.held_out.size(1) : job.held_out_lengths[static_cast<size_t>(row)];
}

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
  // Of hidden states: norms, their squares and inverses, sums, rotated heads and what softmax leaves.
  constexpr int64_t kHiddenStates = 16;
  // Of scores that are spelt out: before and after the cap, the mask and softmax, and softmax's derivative.
  constexpr int64_t kScores = 6;
  const ModelGraph& graph = *job.calibration.graph;
  const int64_t length = job.held_out.size(1);
  int64_t most = 0;
  for (const Block& block : graph.blocks) {
    int64_t values = kHiddenStates * graph.config.hidden_size * length, largest = 0;
    for (const Linear& linear : block.linears) {
      // What it reads and puts out, the gradient of that, and what the activation makes of it. All experts
      // together get each token so many times.
      const int64_t row = linear.in + 4 * linear.out;
      values +=
          row * (linear.input.expert ? length * block.experts->per_token / block.experts->count + 1 : length);
      largest = std::max(largest, linear.in * linear.out);
    }
    const bool spelt_out =
        block.attention_softcap || (block.sliding_window && *block.sliding_window < length);
    if (spelt_out) values += kScores * graph.config.num_heads * length * length;
    most = std::max(most, values + 3 * largest);
  }
  return static_cast<uint64_t>(most) * sizeof(float);
}

LossGradients::LossGradients(const SensitivityJob& job)
    : job_(job),
      rope_(rope_tables(job.calibration.graph->config, job.held_out.size(1), job.calibration.device)),
      states_(spec_of(job, static_cast<int64_t>(job.calibration.graph->blocks.size()))),
      current_(spec_of(job, 1)) {
  forward();
  backward();
}

void LossGradients::forward() {
  const CalibrationJob& calibration = job_.calibration;
  const ModelGraph& graph = *calibration.graph;
  embed_samples(graph, *calibration.weights, job_.held_out, calibration.device, current_);
  for (size_t b = 0; b < graph.blocks.size(); ++b) {
    const BlockWeights weights(graph.blocks[b], *calibration.weights, calibration.device,
                               calibration.compute);
    const BlockForward block(graph.config, graph.blocks[b], weights, rope_);
    for (int64_t row = 0; row < job_.held_out.size(0); ++row) {
      throw_if_cancelled();
      const at::Tensor hidden = current_.read({row, 1});
      states_.write(place(b, row), hidden);
      current_.write({row, 1}, block.run(hidden));
    }
  }
}

void LossGradients::backward() {
  const CalibrationJob& calibration = job_.calibration;
  const ModelGraph& graph = *calibration.graph;
  at::Generator random = at::detail::createCPUGenerator(kLabelSeed);
  for (int64_t row = 0; row < job_.held_out.size(0); ++row) {
    const at::Tensor hidden = current_.read({row, 1}).clone();
    const int64_t length = held_out_length(job_, row);
    // Drawn for all of them: what a row's labels are doesn't depend on the lengths of others.
    const at::Tensor uniform = at::rand({hidden.size(1)}, random, at::kDouble).narrow(0, 0, length);
    const at::Tensor gradient = at::zeros_like(hidden);
    gradient.narrow(1, 0, length)
        .copy_(drawn_label_gradient({&graph, calibration.weights}, hidden.narrow(1, 0, length), uniform,
                                    calibration.device));
    current_.write({row, 1}, gradient);
  }
  for (size_t b = graph.blocks.size(); b-- > 0;) {
    const BlockWeights weights(graph.blocks[b], *calibration.weights, calibration.device,
                               calibration.compute);
    for (int64_t row = 0; row < job_.held_out.size(0); ++row) {
      throw_if_cancelled();
      const at::Tensor after = current_.read({row, 1}).clone();
      const at::Tensor before =
          block_gradient(graph.config, graph.blocks[b], weights, rope_, states_.read(place(b, row)), after)
              .hidden;
      states_.write(place(b, row), after);
      current_.write({row, 1}, before);
    }
  }
}

void LossGradients::add(int64_t row, const Block& block, const BlockWeights& weights,
                        const at::Tensor& hidden, const std::vector<const TrialGroup*>& groups,
                        const std::map<std::string, std::vector<TrialOutcome>>& made,
                        std::vector<std::vector<EstimateSums>>& sums) {
  const BlockGradient pass = block_gradient(job_.calibration.graph->config, block, weights, rope_, hidden,
                                            states_.read(place(static_cast<size_t>(block.index), row)));
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
