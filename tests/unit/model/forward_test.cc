#include "lib/model/forward.h"

#include <cmath>

#include "tests/unit/model/test_model.h"

namespace lathe {
namespace {

using nlohmann::json;

at::Tensor naive_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return x / (x.square().mean(-1, true) + eps).sqrt() * weight;
}

// Position by position, pair by pair: (x_i, x_{i + d/2}) turned by position * theta^(-2i/d). x [b, s, heads,
// d].
at::Tensor naive_rotate(const at::Tensor& x, double theta) {
  const int64_t half = x.size(3) / 2;
  at::Tensor out = at::empty_like(x);
  for (int64_t p = 0; p < x.size(1); ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(p) * std::pow(theta, -static_cast<double>(i) / static_cast<double>(half));
      const at::Tensor a = x.select(1, p).select(-1, i), b = x.select(1, p).select(-1, i + half);
      out.select(1, p).select(-1, i).copy_(a * std::cos(angle) - b * std::sin(angle));
      out.select(1, p).select(-1, i + half).copy_(b * std::cos(angle) + a * std::sin(angle));
    }
  }
  return out;
}

// One token and one head at a time, in FP64. q [b, s, heads, d]; k, v [b, s, kv_heads, d].
at::Tensor naive_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t window) {
  at::Tensor out = at::empty_like(q);
  const int64_t repeat = q.size(2) / k.size(2);
  for (int64_t t = 0; t < q.size(1); ++t) {
    const int64_t first = std::max<int64_t>(0, t - window + 1);
    for (int64_t h = 0; h < q.size(2); ++h) {
      const at::Tensor keys = k.select(2, h / repeat).slice(1, first, t + 1);
      const at::Tensor values = v.select(2, h / repeat).slice(1, first, t + 1);
      const at::Tensor scores =
          at::matmul(keys, q.select(1, t).select(1, h).unsqueeze(-1)) / std::sqrt(q.size(3));
      out.select(1, t).select(1, h).copy_((at::softmax(scores, 1) * values).sum(1));
    }
  }
  return out;
}

at::Tensor naive_block(const SmallModel& model, const at::Tensor& hidden) {
  const ModelConfig& config = model.graph.config;
  const Block& block = model.block();
  const auto linear = [&](LinearRole role, const at::Tensor& x) {
    const Linear& l = *block.find(role);
    const at::Tensor y = at::matmul(x, model.weights.weight(l).to(at::kDouble).t());
    return l.bias ? y + model.weights.bias(l).to(at::kDouble) : y;
  };
  const auto norm = [&](const Norm& n, const at::Tensor& x) {
    return n.name.empty() ? x : naive_norm(x, model.weights.norm(n).to(at::kDouble), config.rms_norm_eps);
  };
  const at::Tensor h = hidden.to(at::kDouble), x = norm(block.attention_norm, h);
  const auto heads = [&](LinearRole role) {
    return linear(role, x).view({h.size(0), h.size(1), -1, config.head_dim});
  };
  const at::Tensor q = naive_rotate(norm(block.q_norm, heads(LinearRole::q_proj)), config.rope.theta);
  const at::Tensor k = naive_rotate(norm(block.k_norm, heads(LinearRole::k_proj)), config.rope.theta);
  const at::Tensor a =
      naive_attention(q, k, heads(LinearRole::v_proj), block.sliding_window.value_or(h.size(1)));
  const at::Tensor attended = h + linear(LinearRole::o_proj, a.flatten(2));
  const at::Tensor y = norm(block.mlp_norm, attended), gate = linear(LinearRole::gate_proj, y);
  return attended + linear(LinearRole::down_proj, gate * at::sigmoid(gate) * linear(LinearRole::up_proj, y));
}

std::vector<json> variants() {
  return {small_config(),
          with(small_config(), {{"num_key_value_heads", 1}, {"attention_bias", true}, {"mlp_bias", true}}),
          with(small_config("mistral"), {{"sliding_window", 3}, {"num_key_value_heads", 4}}),
          small_config("qwen2"), with(small_config("qwen3"), {{"head_dim", 10}})};
}

TEST(BlockForward, EqualsAnObviousForwardInFp64) {
  for (const json& config : variants()) {
    const SmallModel model(config);
    const at::Tensor hidden = random_hidden(2, 9);
    const at::Tensor expected = naive_block(model, hidden);
    EXPECT_LT(relative_difference(model.run(hidden).to(at::kDouble), expected), 1e-6) << config.dump();
  }
}

TEST(BlockForward, StagesMakeUpTheRunAndLeaveTheirInputsAlone) {
  for (const json& config : variants()) {
    const SmallModel model(config);
    const RopeTables rope = rope_tables(model.graph.config, 9, at::kCPU);
    const BlockForward forward(model.graph.config, model.block(), model.weights, rope);
    const at::Tensor hidden = random_hidden(2, 9), before = hidden.clone();
    const at::Tensor x = forward.attention_in(hidden), x_before = x.clone();
    const at::Tensor a = forward.attention_out(x), a_before = a.clone();
    const at::Tensor h = forward.add_attention(hidden, a), h_before = h.clone();
    const at::Tensor y = forward.mlp_in(h), y_before = y.clone();
    const at::Tensor z = forward.mlp_mid(y), z_before = z.clone();
    EXPECT_TRUE(at::equal(forward.add_mlp(h, z), forward.run(hidden)));
    EXPECT_EQ(a.size(2), model.graph.config.num_heads * model.graph.config.head_dim);
    EXPECT_EQ(z.size(2), model.graph.config.intermediate_size);
    EXPECT_TRUE(at::equal(hidden, before) && at::equal(x, x_before) && at::equal(a, a_before));
    EXPECT_TRUE(at::equal(h, h_before) && at::equal(y, y_before) && at::equal(z, z_before));
  }
}

TEST(BlockForward, UsesAWeightThatIsSetBetweenStages) {
  SmallModel model(small_config());
  const RopeTables rope = rope_tables(model.graph.config, 4, at::kCPU);
  const BlockForward forward(model.graph.config, model.block(), model.weights, rope);
  const at::Tensor hidden = random_hidden(1, 4), a = forward.attention_out(forward.attention_in(hidden));
  const Linear& o = *model.block().find(LinearRole::o_proj);
  model.weights.set_weight(o, at::zeros({o.out, o.in}));
  EXPECT_TRUE(at::equal(forward.add_attention(hidden, a), hidden));
  model.weights.set_bias(o, at::full({o.out}, 2.0));
  EXPECT_TRUE(at::equal(forward.add_attention(hidden, a), hidden + 2.0));
}

TEST(BlockForward, IsCausal) {
  for (const json& config : variants()) {
    const SmallModel model(config);
    const at::Tensor hidden = random_hidden(1, 10), changed = hidden.clone();
    changed.select(1, 6).add_(1.0);
    const at::Tensor a = model.run(hidden), b = model.run(changed);
    EXPECT_LT(relative_difference(b.slice(1, 0, 6), a.slice(1, 0, 6)), 1e-6);
    for (int64_t t = 6; t < 10; ++t) {
      if (model.block().sliding_window && t >= 6 + *model.block().sliding_window) continue;
      EXPECT_GT(relative_difference(b.select(1, t), a.select(1, t)), 1e-4) << t;
    }
  }
}

TEST(BlockForward, LooksNoFurtherBackThanTheWindow) {
  for (const int64_t window : {1, 3, 9}) {
    const SmallModel model(with(small_config("mistral"), {{"sliding_window", window}}));
    const at::Tensor hidden = random_hidden(1, 10), changed = hidden.clone();
    changed.select(1, 0).add_(1.0);
    const at::Tensor a = model.run(hidden), b = model.run(changed);
    EXPECT_GT(relative_difference(b.select(1, window - 1), a.select(1, window - 1)), 1e-4)
        << "the last that sees it";
    EXPECT_LT(relative_difference(b.slice(1, window), a.slice(1, window)), 1e-6) << "window " << window;
  }
}

TEST(BlockForward, RowsOfABatchAreIndependent) {
  const SmallModel model(small_config("qwen3"));
  const at::Tensor hidden = random_hidden(3, 5);
  EXPECT_LT(relative_difference(model.run(hidden)[1], model.run(hidden.slice(0, 1, 2))[0]), 1e-6);
}

TEST(BlockForward, RefusesTablesOfAnotherLength) {
  const SmallModel model(small_config());
  const RopeTables rope = rope_tables(model.graph.config, 8, at::kCPU);
  const BlockForward forward(model.graph.config, model.block(), model.weights, rope);
  EXPECT_THROW(forward.run(random_hidden(1, 4)), InternalError);
}

TEST(BlockWeights, RefusesAnotherShape) {
  SmallModel model(small_config());
  const Linear& k = *model.block().find(LinearRole::k_proj);
  EXPECT_THROW(model.weights.set_weight(k, at::zeros({k.in, k.out})), InternalError);
  EXPECT_THROW(model.weights.set_bias(k, at::zeros({k.out + 1})), InternalError);
  EXPECT_THROW(model.weights.weight(model.graph.lm_head), InternalError);
  EXPECT_FALSE(model.weights.bias(k).defined());
}

TEST(Head, NormsThenProjects) {
  const ModelGraph graph = graph_of(small_config());
  const RandomWeights source(graph);
  const at::Tensor norm = source.load("model.norm.weight"), weight = source.load("lm_head.weight");
  const at::Tensor hidden = random_hidden(2, 3);
  const at::Tensor expected = at::matmul(naive_norm(hidden, norm, graph.config.rms_norm_eps), weight.t());
  EXPECT_LT(relative_difference(head(graph, norm, weight, at::Tensor(), hidden), expected), 1e-6);
  const at::Tensor bias = at::arange(40, at::kFloat);
  EXPECT_LT(relative_difference(head(graph, norm, weight, bias, hidden), expected + bias), 1e-6);
}

TEST(Embed, TakesRows) {
  const at::Tensor table = at::arange(12, at::kFloat).view({4, 3});
  const at::Tensor ids = at::tensor({3, 0, 1, 1}, at::kLong).view({2, 2});
  const at::Tensor expected = at::tensor({9.f, 10.f, 11.f, 0.f, 1.f, 2.f, 3.f, 4.f, 5.f, 3.f, 4.f, 5.f});
  EXPECT_TRUE(at::equal(embed(table, ids), expected.view({2, 2, 3})));
}

}  // namespace
}  // namespace lathe
