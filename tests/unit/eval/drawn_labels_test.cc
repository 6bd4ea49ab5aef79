// The labels are drawn from the model's distribution, and the gradient is that of their likelihood.
#include "lib/eval/drawn_labels.h"

#include <ATen/ATen.h>

#include "tests/unit/model/test_model.h"

namespace lathe {
namespace {

/// Log-probabilities of each position, double [n, vocabulary].
at::Tensor log_p(const ModelGraph& graph, const RandomWeights& weights, const at::Tensor& states) {
  const bool tied = graph.config.tie_word_embeddings;
  const at::Tensor rows = weights.load(tied ? "model.embed_tokens.weight" : "lm_head.weight");
  const at::Tensor logits = head(graph, weights.load("model.norm.weight"), rows, {}, states)[0];
  return at::log_softmax(logits.to(at::kDouble), -1);
}

at::Tensor expected_labels(const at::Tensor& log_probabilities, const at::Tensor& uniform) {
  const at::Tensor reached = log_probabilities.exp().cumsum(1);
  return reached.gt(uniform.unsqueeze(1)).to(at::kByte).argmax(1);
}

TEST(DrawnLabels, GradientIsThatOfTheirLikelihood) {
  for (const std::string family : {"llama", "gemma2"}) {  // without and with a soft cap
    const ModelGraph graph = graph_of(family_config(family));
    const RandomWeights weights(graph);
    const at::Tensor states = random_hidden(1, 6);
    const at::Tensor uniform = at::rand({6}, at::kDouble);
    const at::Tensor labels = expected_labels(log_p(graph, weights, states), uniform);
    const auto loss = [&](const at::Tensor& at) {
      return -log_p(graph, weights, at).gather(1, labels.unsqueeze(1)).sum().item<double>();
    };
    const at::Tensor found = drawn_label_gradient({&graph, &weights}, states, uniform, at::kCPU);
    for (int trial = 0; trial < 4; ++trial) {
      const at::Tensor direction = at::randn(states.sizes()) * 1e-2;
      const double moved = (loss(states + direction) - loss(states - direction)) / 2;
      EXPECT_NEAR(moved, (found * direction).sum(at::kDouble).item<double>(), 1e-3 * std::abs(moved) + 1e-5)
          << family;
    }
  }
}

// The mean of p - onehot(y) over many draws is nothing.
TEST(DrawnLabels, AreDrawnFromTheModel) {
  const ModelGraph graph = graph_of(small_config());
  const RandomWeights weights(graph);
  constexpr int64_t kDraws = 4000;
  const at::Tensor states = random_hidden(1, 1).expand({1, kDraws, 32}).contiguous();
  const at::Tensor evenly = (at::arange(kDraws, at::kDouble) + 0.5) / kDraws;
  const at::Tensor found = drawn_label_gradient({&graph, &weights}, states, evenly, at::kCPU)[0];
  const double one = found.norm(2, {1}).mean().item<double>();
  EXPECT_LT(found.mean(0).norm().item<double>(), 2e-3 * one);
}

TEST(DrawnLabels, TheFirstAndTheLastTokenCanBeDrawn) {
  const ModelGraph graph = graph_of(small_config());
  const RandomWeights weights(graph);
  const at::Tensor states = random_hidden(1, 2);
  const at::Tensor ends = at::tensor({0.0, 1 - 1e-16}, at::kDouble);
  const at::Tensor p = log_p(graph, weights, states).exp();
  EXPECT_EQ(expected_labels(p.log(), at::tensor({0.0, 1 - 1e-5}, at::kDouble))[1].item<int64_t>(), 39);
  const at::Tensor found = drawn_label_gradient({&graph, &weights}, states, ends, at::kCPU);
  EXPECT_TRUE(found.isfinite().all().item<bool>());
  EXPECT_GT(found.abs().amax(2).min().item<double>(), 0);
}

}  // namespace
}  // namespace lathe
