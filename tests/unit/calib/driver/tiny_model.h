// A random model in memory and algorithms that show what the driver does, for its tests: no files.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "algorithms/algorithm.h"
#include "calib/driver/driver.h"
#include "lib/kernels/dequantize.h"
#include "lib/model/graph.h"
#include "lib/model/weight_source.h"

namespace lathe::testing {

class MemoryWeights : public WeightSource {
 public:
  bool contains(const std::string& name) const override { return tensors.contains(name); }
  at::Tensor load(const std::string& name) const override { return tensors.at(name).clone(); }
  std::optional<InputQuantizer> input_quantizer(const std::string& linear) const override {
    const auto found = inputs.find(linear);
    return found == inputs.end() ? std::nullopt : std::optional(found->second);
  }
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, InputQuantizer> inputs;  // by linear
};

/// GQA 4/2, biases on q/k/v, F32, so that rounding of folded norms doesn't hide errors of the fold itself.
inline ModelGraph tiny_graph(const std::string& dtype = "float32") {
  const nlohmann::json config = {{"model_type", "qwen2"},
                                 {"hidden_size", 64},
                                 {"intermediate_size", 96},
                                 {"num_hidden_layers", 2},
                                 {"num_attention_heads", 4},
                                 {"num_key_value_heads", 2},
                                 {"vocab_size", 50},
                                 {"rms_norm_eps", 1e-5},
                                 {"max_position_embeddings", 64},
                                 {"tie_word_embeddings", false},
                                 {"hidden_act", "silu"},
                                 {"torch_dtype", dtype},
                                 {"rope_theta", 10000.0}};
  return build_graph(parse_model_config(config, "config.json"));
}

/// Blocks of any family; where it has experts, five 32 wide, two a token.
inline ModelGraph family_graph(const std::string& family, int64_t hidden, int64_t blocks = 2) {
  return build_graph(parse_model_config({{"model_type", family},
                                         {"hidden_size", hidden},
                                         {"intermediate_size", 96},
                                         {"moe_intermediate_size", 32},
                                         {"shared_expert_intermediate_size", 64},
                                         {"num_experts", 5},
                                         {"num_experts_per_tok", 2},
                                         {"num_hidden_layers", blocks},
                                         {"num_attention_heads", 4},
                                         {"num_key_value_heads", 2},
                                         {"vocab_size", 50},
                                         {"max_position_embeddings", 64},
                                         {"torch_dtype", "float32"}},
                                        "config.json"));
}

inline MemoryWeights random_weights(const ModelGraph& graph, uint64_t seed) {
  at::manual_seed(seed);
  MemoryWeights weights;
  for (const auto& [name, shape] : graph.expected_tensors()) {
    at::Tensor values = at::randn(shape);
    if (shape.size() == 2) values /= std::sqrt(static_cast<double>(shape[1]));
    if (name.find("norm") != std::string::npos) values = values.abs() + 0.5;
    weights.tensors[name] = values.to(at::kHalf).to(at::kFloat);
  }
  return weights;
}

/// RTN that writes down the statistics it was shown, by linear.
class RecordingSolver : public Solver {
 public:
  explicit RecordingSolver(bool pair = false) : pair_(pair) {
    for (const SolverEntry& entry : solvers()) {
      if (entry.name == "rtn") rtn_ = entry.make(Options(entry.options));
    }
  }
  StatSet needs() const override {
    StatSet set{.gram = true, .mean_abs = true};
    set.cross_gram = pair_;
    return set;
  }
  std::vector<SolveResult> solve(const SharedInputProblem& problem) const override {
    for (const LinearProblem& linear : problem.linears) seen[linear.name] = *problem.stats;
    return rtn_->solve(problem);
  }

  mutable std::map<std::string, InputStats> seen;

 private:
  bool pair_;
  std::unique_ptr<Solver> rtn_;
};

/// 0.5 to 2 along an input; query heads that share a KV head (`repeat` of them) share their scales.
inline at::Tensor fixed_scales(int64_t width, int64_t repeat = 1, int64_t head_dim = 0) {
  const at::Tensor scales = at::linspace(0.5, 2.0, width / repeat);
  if (repeat == 1) return scales;
  return scales.view({-1, 1, head_dim}).expand({-1, repeat, -1}).reshape(-1).contiguous();
}

/// Moves fixed scales along every edge.
class FixedScales : public Transform {
 public:
  StatSet needs() const override { return {}; }
  FoldDecision fold(const ScaleEdge& edge, const SharedInputProblem& problem) const override {
    const int64_t width = problem.linears.front().weight.size(1);
    const c10::Device device = problem.linears.front().weight.device();
    return {.scales = fixed_scales(width, edge.repeat, edge.head_dim).to(device),
            .ratio = 0,
            .loss_before = 0,
            .loss_after = 0,
            .note = ""};
  }
  std::optional<GroupRange> range(const LinearProblem&, const InputStats&) const override {
    return std::nullopt;
  }
};

/// The model that a run made, dequantised.
inline MemoryWeights finished_model(const MemoryWeights& weights, const std::vector<BlockOutcome>& outcomes) {
  MemoryWeights finished = weights;
  for (const BlockOutcome& outcome : outcomes) {
    for (const LinearOutcome& linear : outcome.linears) {
      finished.tensors[linear.linear->name + ".weight"] = kernels::dequantized_weight(linear.quantized);
      if (linear.quantized.input) finished.inputs[linear.linear->name] = *linear.quantized.input;
    }
    for (const auto& [name, tensor] : outcome.changed) finished.tensors[name] = tensor;
  }
  return finished;
}

/// a^T b / tokens, FP32, from FP64.
inline at::Tensor product_of(const at::Tensor& a, const at::Tensor& b) {
  return (a.t().mm(b) / a.size(0)).to(at::kFloat);
}

inline void expect_near(const at::Tensor& found, const at::Tensor& expected, double bound,
                        const std::string& name) {
  ASSERT_TRUE(found.defined()) << name;
  EXPECT_LT(((found - expected).norm() / expected.norm()).item<double>(), bound) << name;
}

}  // namespace lathe::testing
