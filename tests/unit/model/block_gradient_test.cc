// The differentiable pass is the forward pass, and its gradients are those of differences, for every family.
#include "lib/model/block_gradient.h"

#include "lib/kernels/transformer_ops.h"
#include "tests/unit/model/test_model.h"

namespace lathe {
namespace {

class BlockGradientOf : public testing::TestWithParam<std::string> {
 protected:
  BlockGradientOf() : model_(family_config(GetParam())), rope_(rope_tables(config(), kTokens, at::kCPU)) {}

  const ModelConfig& config() const { return model_.graph.config; }
  BlockGradient gradient() const {
    return block_gradient(config(), model_.block(), model_.weights, rope_, hidden_, weight_);
  }
  /// The loss, linear in the block's output.
  double loss(const at::Tensor& hidden, const BlockWeights& weights) const {
    const at::Tensor out = BlockForward(config(), model_.block(), weights, rope_).run(hidden);
    return (out * weight_).sum(at::kDouble).item<double>();
  }

  /// Small enough that no token goes to another expert.
  double step() const { return model_.block().experts ? 5e-4 : 1e-2; }

  static constexpr int64_t kTokens = 9;
  SmallModel model_;
  RopeTables rope_;
  at::Tensor hidden_ = random_hidden(2, kTokens);
  at::Tensor weight_ = at::randn({2, kTokens, 32});
};

TEST_P(BlockGradientOf, ItsOutputIsTheForwardPass) {
  const at::Tensor expected = model_.run(hidden_);
  EXPECT_LT(relative_difference(gradient().output, expected), 1e-5);
}

TEST_P(BlockGradientOf, HiddenStatesMoveTheLossByIt) {
  const at::Tensor direction = at::randn(hidden_.sizes()) * step();
  const double moved =
      (loss(hidden_ + direction, model_.weights) - loss(hidden_ - direction, model_.weights)) / 2;
  const double expected = (gradient().hidden * direction).sum(at::kDouble).item<double>();
  EXPECT_NEAR(moved, expected, 0.02 * std::abs(expected) + 1e-4 + 0.1 * step());
}

TEST_P(BlockGradientOf, WeightsMoveTheLossByWhatTheirOutputsDo) {
  const BlockGradient found = gradient();
  size_t seen = 0;
  for (const LinearGradient& one : found.linears) {
    const at::Tensor change = at::randn({one.linear->out, one.linear->in}) * (step() / 6);
    BlockWeights more = model_.weights, less = model_.weights;
    more.set_weight(*one.linear, model_.weights.weight(*one.linear) + change);
    less.set_weight(*one.linear, model_.weights.weight(*one.linear) - change);
    const double moved = (loss(hidden_, more) - loss(hidden_, less)) / 2;
    const double expected =
        (at::matmul(one.input, change.t()) * one.gradient).sum(at::kDouble).item<double>();
    EXPECT_NEAR(moved, expected, 0.02 * std::abs(expected) + 1e-4 + 0.1 * step()) << one.linear->name;
    EXPECT_EQ(one.tokens.size(0), one.input.size(0));
    ++seen;
  }
  const bool routed = model_.block().experts.has_value();
  EXPECT_EQ(seen + (routed ? 1 : 0), model_.block().linears.size());
}

TEST_P(BlockGradientOf, CachedNumbersMoveTheLossByIt) {
  const BlockGradient found =
      block_gradient(config(), model_.block(), model_.weights, rope_, hidden_, weight_, /*cache=*/true);
  const int64_t queries = config().num_heads * config().head_dim,
                channels = config().num_kv_heads * config().head_dim;
  for (const bool keys : {true, false}) {
    const Linear* linear = model_.block().find(keys ? LinearRole::k_proj : LinearRole::v_proj);
    int64_t first = 0;
    if (linear == nullptr) {
      linear = model_.block().find(LinearRole::qkv_proj);
      first = queries + (keys ? 0 : channels);
    }
    const at::Tensor change = at::zeros({linear->out, linear->in});
    change.narrow(0, first, channels).copy_(at::randn({channels, linear->in}) * (step() / 6));
    BlockWeights more = model_.weights, less = model_.weights;
    more.set_weight(*linear, model_.weights.weight(*linear) + change);
    less.set_weight(*linear, model_.weights.weight(*linear) - change);
    const auto cached = [&](const BlockWeights& weights) {
      const BlockForward block(config(), model_.block(), weights, rope_);
      const AttentionInputs inputs = block.attention_inputs(block.attention_in(hidden_));
      return keys ? inputs.unrotated_keys : inputs.values.transpose(1, 2);
    };
    const double moved = (loss(hidden_, more) - loss(hidden_, less)) / 2;
    const double expected = ((cached(more) - cached(less)) / 2 * (keys ? found.keys : found.values))
                                .sum(at::kDouble)
                                .item<double>();
    EXPECT_NEAR(moved, expected, 0.02 * std::abs(expected) + 1e-4 + 0.1 * step()) << keys;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, BlockGradientOf, testing::ValuesIn(all_families()),
                         [](const auto& family) { return family.param; });

TEST(RmsNormGradient, MovesTheLossByIt) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({5, 32}), weight = at::randn({32}), loss = at::randn({5, 32});
  const at::Tensor direction = at::randn({5, 32}) * 1e-2;
  for (const bool unit_offset : {false, true}) {
    const auto value = [&](const at::Tensor& at) {
      return (kernels::rms_norm(at, weight, 1e-5, unit_offset) * loss).sum(at::kDouble).item<double>();
    };
    const double moved = (value(x + direction) - value(x - direction)) / 2;
    const at::Tensor gradient = rms_norm_gradient(x, weight, 1e-5, unit_offset, loss);
    EXPECT_NEAR(moved, (gradient * direction).sum(at::kDouble).item<double>(), 1e-4);
  }
}

}  // namespace
}  // namespace lathe
