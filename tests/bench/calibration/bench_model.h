// The models that are measured: real weights where a folder is given, else weights of the same shapes from a
// seed.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "lib/model/forward.h"

namespace lathe::bench {

/// Normal weights, the same for a name in every run: matrices keep their input's scale, norms lie around one.
/// Made on `device` when they are loaded, so that a model of any size needs one block's memory.
class SeededWeights : public WeightSource {
 public:
  SeededWeights(const ModelGraph& graph, c10::Device device)
      : shapes_(graph.expected_tensors()), device_(device) {}
  bool contains(const std::string& name) const override { return shapes_.contains(name); }
  at::Tensor load(const std::string& name) const override;

 private:
  std::map<std::string, std::vector<int64_t>> shapes_;
  c10::Device device_;
};

struct BenchModel {
  std::string name;
  std::string weights_from;  // "seed" or "folder"
  ModelGraph graph;
  std::shared_ptr<const WeightSource> weights;
  int64_t context = 0;  // tokens of a sample
  int64_t batch = 0;    // samples in the micro-batch that is timed
  int64_t samples = 0;  // of the whole pass; 0: none is made

  int64_t tokens() const { return batch * context; }
};

/// "smollm2" (SmolLM2-135M: 30 blocks 576 wide), "block4096" (one block of Llama-3-8B's shape), "8b" (32 of
/// them, and a whole pass of 128 x 2048 tokens). folder: a checkpoint for smollm2, or empty. quick: the same
/// kinds of rows from models that take seconds. UserError for another name.
BenchModel make_model(const std::string& name, const std::string& folder, bool quick, c10::Device device);
const std::vector<std::string>& model_names();

/// What the forward pass multiplies in, as the program itself chooses: FP32 on the CPU, BF16 on a GPU.
DType compute_dtype(const BenchModel& model, c10::Device device);

/// The model's weights from the CPU, as a run reads them (those of make_model() may be made on the device).
std::shared_ptr<const WeightSource> host_weights(const BenchModel& model);

/// [batch, context, hidden] FP32 on the device: embedded seeded ids, or seeded noise where the weights are
/// seeded.
at::Tensor first_hidden(const BenchModel& model, c10::Device device);

/// Operations of one micro-batch (a multiplication and an addition are two): all linears, and causal
/// attention.
double linear_flops(const BenchModel& model);
double attention_flops(const BenchModel& model);
/// Of X^T X on and above the diagonal, for all inputs of a block.
double gram_flops(const BenchModel& model);

/// All stages of a dense block, as BlockForward::run(); `observe` is shown each linear input on the way.
at::Tensor run_stages(const BlockForward& forward, const at::Tensor& hidden,
                      const std::function<void(Slot slot, const at::Tensor& x)>& observe);

inline constexpr Slot kSlots[] = {Slot::attention_in, Slot::attention_out, Slot::mlp_in, Slot::mlp_mid};
inline int64_t width_of(const Block& block, Slot slot) { return block.reading(slot).front()->in; }

}  // namespace lathe::bench
