#include "calib/driver/loss_passes.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "lib/activations/embed_samples.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/eval/drawn_labels.h"

namespace lathe {
namespace {

constexpr uint64_t kLabelSeed = 0x5eed;

class Passes {
 public:
  Passes(const LossPasses& passes, ActivationStore& states, ActivationStore& current)
      : passes_(passes),
        rope_(rope_tables(passes.graph->config, passes.ids.size(1), passes.device)),
        states_(states),
        current_(current) {}

  void forward() {
    const ModelGraph& graph = *passes_.graph;
    embed_samples(graph, *passes_.weights, passes_.ids, passes_.device, current_);
    for (size_t b = 0; b < graph.blocks.size(); ++b) {
      const BlockWeights weights = weights_of(b);
      const BlockForward block(graph.config, graph.blocks[b], weights, rope_);
      for (int64_t row = 0; row < rows(); ++row) {
        throw_if_cancelled();
        const at::Tensor hidden = current_.read({row, 1});
        put(b, row, hidden);
        current_.write({row, 1}, block.run(hidden));
      }
    }
  }

  void draw_labels() {
    at::Generator random = at::detail::createCPUGenerator(kLabelSeed);
    for (int64_t row = 0; row < rows(); ++row) {
      const at::Tensor hidden = current_.read({row, 1}).clone();
      const int64_t length =
          passes_.lengths.empty() ? hidden.size(1) : passes_.lengths[static_cast<size_t>(row)];
      // Drawn for all of them: what a row's labels are doesn't depend on the lengths of others.
      const at::Tensor uniform = at::rand({hidden.size(1)}, random, at::kDouble).narrow(0, 0, length);
      const at::Tensor gradient = at::zeros_like(hidden);
      gradient.narrow(1, 0, length)
          .copy_(drawn_label_gradient({passes_.graph, passes_.weights}, hidden.narrow(1, 0, length), uniform,
                                      passes_.device));
      current_.write({row, 1}, gradient);
    }
  }

  void backward(const KeepOfBlock& keep) {
    const ModelGraph& graph = *passes_.graph;
    for (size_t b = graph.blocks.size(); b-- > 0;) {
      const BlockWeights weights = weights_of(b);
      for (int64_t row = 0; row < rows(); ++row) {
        throw_if_cancelled();
        const at::Tensor after = current_.read({row, 1}).clone();
        const at::Tensor hidden =
            states_.read(place_of(passes_, b, row)).narrow(2, 0, graph.config.hidden_size).contiguous();
        const BlockGradient gradient = block_gradient(graph.config, graph.blocks[b], weights, rope_, hidden,
                                                      after, passes_.cache_gradients);
        put(b, row, keep(gradient, after));
        current_.write({row, 1}, gradient.hidden);
      }
    }
  }

 private:
  int64_t rows() const { return passes_.ids.size(0); }

  BlockWeights weights_of(size_t block) const {
    return {passes_.graph->blocks[block], *passes_.weights, passes_.device, passes_.compute};
  }

  void put(size_t block, int64_t row, const at::Tensor& values) {
    LATHE_ASSERT(values.size(2) <= states_.width(), "{} values in the place of {}", values.size(2),
                 states_.width());
    if (values.size(2) == states_.width()) return states_.write(place_of(passes_, block, row), values);
    const at::Tensor wide = at::zeros({1, values.size(1), states_.width()}, values.options());
    wide.narrow(2, 0, values.size(2)).copy_(values);
    states_.write(place_of(passes_, block, row), wide);
  }

  const LossPasses& passes_;
  RopeTables rope_;
  ActivationStore& states_;
  ActivationStore& current_;
};

}  // namespace

void pass_loss_back(const LossPasses& passes, ActivationStore& states, ActivationStore& current,
                    const KeepOfBlock& keep) {
  Passes run(passes, states, current);
  run.forward();
  run.draw_labels();
  run.backward(keep);
}

}  // namespace lathe
