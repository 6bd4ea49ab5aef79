#include "lib/model/forward.h"

#include <cmath>

#include "tests/unit/model/test_model.h"

namespace lathe {
namespace {

using nlohmann::json;

at::Tensor naive_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return x / (x.square().mean(-1, true) + eps).sqrt() * weight;
}

// Position by position, pair by pair: (x_i, x_{i + d/2}) turned by position * theta^(-2i/d), d the channels
// that turn. x [b, s, heads, head_dim].
at::Tensor naive_rotate(const at::Tensor& x, const RopeConfig& rope) {
  const int64_t half = rope.rotary_dim / 2;
  const double theta = rope.theta;
  at::Tensor out = x.clone();
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
at::Tensor naive_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const Block& block) {
  const int64_t window = block.sliding_window.value_or(q.size(1));
  at::Tensor out = at::empty_like(q);
  const int64_t repeat = q.size(2) / k.size(2);
  for (int64_t t = 0; t < q.size(1); ++t) {
    const int64_t first = std::max<int64_t>(0, t - window + 1);
    for (int64_t h = 0; h < q.size(2); ++h) {
      const at::Tensor keys = k.select(2, h / repeat).slice(1, first, t + 1);
      const at::Tensor values = v.select(2, h / repeat).slice(1, first, t + 1);
      at::Tensor scores = at::matmul(keys, q.select(1, t).select(1, h).unsqueeze(-1)) * block.attention_scale;
      if (block.attention_softcap)
        scores = *block.attention_softcap * at::tanh(scores / *block.attention_softcap);
      out.select(1, t).select(1, h).copy_((at::softmax(scores, 1) * values).sum(1));
    }
  }
  return out;
}

/// The obvious block in FP64.
class Naive {
 public:
  explicit Naive(const SmallModel& model)
      : model_(model), config_(model.graph.config), block_(model.block()) {}

  at::Tensor run(const at::Tensor& hidden) const {
    const at::Tensor h = hidden.to(at::kDouble);
    const at::Tensor attended =
        h + norm(block_.attention_out_norm, attention(norm(block_.attention_norm, h)));
    return attended + norm(block_.mlp_out_norm, mlp(norm(block_.mlp_norm, attended)));
  }

 private:
  using Expert = std::optional<int64_t>;

  at::Tensor linear(LinearRole role, const at::Tensor& x, Expert expert = {}) const {
    const Linear& l = *block_.find(role, expert);
    const at::Tensor y = at::matmul(x, model_.weights.weight(l).to(at::kDouble).t());
    return l.bias ? y + model_.weights.bias(l).to(at::kDouble) : y;
  }

  at::Tensor norm(const Norm& n, const at::Tensor& x) const {
    if (n.name.empty()) return x;
    const at::Tensor weight = model_.weights.norm(n).to(at::kDouble) + (n.one_plus ? 1.0 : 0.0);
    return naive_norm(x.view({x.size(0), x.size(1), -1, n.width}), weight, config_.rms_norm_eps)
        .view(x.sizes());
  }

  at::Tensor attention(const at::Tensor& x) const {
    at::Tensor q, k, v;
    if (block_.find(LinearRole::qkv_proj) != nullptr) {
      const at::Tensor all = linear(LinearRole::qkv_proj, x);
      const int64_t rows = config_.num_heads * config_.head_dim,
                    shared = config_.num_kv_heads * config_.head_dim;
      q = all.slice(-1, 0, rows), k = all.slice(-1, rows, rows + shared), v = all.slice(-1, rows + shared);
    } else {
      q = linear(LinearRole::q_proj, x), k = linear(LinearRole::k_proj, x), v = linear(LinearRole::v_proj, x);
    }
    const auto heads = [&](const at::Tensor& y) {
      return (block_.qkv_clip ? y.clamp(-*block_.qkv_clip, *block_.qkv_clip) : y)
          .reshape({x.size(0), x.size(1), -1, config_.head_dim});
    };
    const RopeConfig& rope = block_.local_rope ? *config_.local_rope : config_.rope;
    const at::Tensor out =
        naive_attention(naive_rotate(heads(norm(block_.q_norm, q.contiguous())), rope),
                        naive_rotate(heads(norm(block_.k_norm, k.contiguous())), rope), heads(v), block_);
    return linear(LinearRole::o_proj, out.flatten(2));
  }

  at::Tensor act(const at::Tensor& x) const {
    return config_.activation == "silu" ? x * at::sigmoid(x) : at::gelu(x, "tanh");
  }

  at::Tensor gated(const at::Tensor& y, Expert expert = {}) const {
    if (block_.find(LinearRole::gate_up_proj, expert) != nullptr) {
      const at::Tensor both = linear(LinearRole::gate_up_proj, y, expert);
      const int64_t width = both.size(-1) / 2;
      return linear(LinearRole::down_proj, act(both.slice(-1, 0, width)) * both.slice(-1, width), expert);
    }
    return linear(LinearRole::down_proj,
                  act(linear(LinearRole::gate_proj, y, expert)) * linear(LinearRole::up_proj, y, expert),
                  expert);
  }

  at::Tensor mlp(const at::Tensor& y) const {
    if (!block_.experts) return gated(y);
    at::Tensor out = at::zeros_like(y);
    if (block_.find(LinearRole::shared_expert_gate) != nullptr) {
      out += at::sigmoid(linear(LinearRole::shared_expert_gate, y)) * gated(y);
    }
    for (int64_t b = 0; b < y.size(0); ++b) {
      for (int64_t t = 0; t < y.size(1); ++t) out[b][t] += experts(y[b][t]);
    }
    return out;
  }

  at::Tensor experts(const at::Tensor& token) const {
    at::Tensor odds = at::exp(linear(LinearRole::router, token));
    odds /= odds.sum();
    at::Tensor out = at::zeros_like(token), left = odds.clone();
    double total = 0;
    for (int64_t k = 0; k < block_.experts->per_token; ++k) {
      const int64_t best = left.argmax().item<int64_t>();
      out += odds[best] * gated(token, best);
      total += odds[best].item<double>();
      left[best] = -1;
    }
    return block_.experts->normalise ? out / total : out;
  }

  const SmallModel& model_;
  const ModelConfig& config_;
  const Block& block_;
};

std::vector<json> variants() {
  return {small_config(),
          with(small_config(), {{"num_key_value_heads", 1}, {"attention_bias", true}, {"mlp_bias", true}}),
          with(small_config("mistral"), {{"sliding_window", 3}, {"num_key_value_heads", 4}}),
          with(small_config("qwen3"), {{"head_dim", 10}})};
}

/// Those, and every family as it is.
std::vector<json> all_variants() {
  std::vector<json> configs = variants();
  configs.push_back(with(family_config("olmoe"), {{"clip_qkv", 0.5}, {"norm_topk_prob", false}}));
  for (const std::string& family : all_families()) configs.push_back(family_config(family));
  return configs;
}

TEST(BlockForward, EqualsAnObviousForwardInFp64) {
  for (const json& config : all_variants()) {
    const SmallModel model(config);
    const at::Tensor hidden = random_hidden(2, 9);
    const at::Tensor expected = Naive(model).run(hidden);
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

TEST(BlockForward, ExpertStagesMakeUpTheRun) {
  for (const char* family : {"mixtral", "qwen2_moe", "qwen3_moe", "olmoe"}) {
    const SmallModel model(family_config(family));
    const RopeTables rope = rope_tables(model.graph.config, 9, at::kCPU);
    const BlockForward forward(model.graph.config, model.block(), model.weights, rope);
    const at::Tensor hidden = random_hidden(2, 9);
    const at::Tensor h = forward.add_attention(hidden, forward.attention_out(forward.attention_in(hidden)));
    const at::Tensor y = forward.mlp_in(h).view({18, 32}), y_before = y.clone();
    const Routing routing = forward.route(y);
    at::Tensor out = forward.shared_out(y, family == std::string("qwen2_moe")
                                               ? forward.mlp_mid(y.view(h.sizes())).flatten(0, 1)
                                               : at::Tensor());
    int64_t sent = 0;
    for (int64_t expert = 0; expert < 4; ++expert) {
      const Routing::Rows rows = routing.rows_of(expert);
      sent += rows.tokens.numel();
      const at::Tensor mid = forward.expert_mid(expert, y.index_select(0, rows.tokens));
      EXPECT_EQ(mid.size(1), model.graph.config.experts->width);
      out.index_add_(0, rows.tokens, forward.expert_out(expert, mid) * rows.weights.unsqueeze(1));
    }
    EXPECT_EQ(sent, 18 * 2);
    EXPECT_TRUE(at::equal(forward.add_mlp_out(h, out.view(h.sizes())), forward.run(hidden))) << family;
    EXPECT_TRUE(at::equal(y, y_before));
    const double total = routing.weights.sum().item<double>();
    if (model.block().experts->normalise) {
      EXPECT_NEAR(total, 18, 1e-4);
    } else {
      EXPECT_LT(total, 17.5);
    }
  }
}

TEST(Routing, RowsOfAllExpertsAreThoseOfEach) {
  at::manual_seed(5);
  const int64_t tokens = 60, count = 9;
  const at::Tensor experts = at::rand({tokens, count - 1})
                                 .argsort(1, /*descending=*/false)
                                 .narrow(1, 0, 3);  // the last one gets nothing
  const Routing routing{experts, at::rand({tokens, 3})};
  const std::vector<Routing::Rows> all = routing.by_expert(count);
  ASSERT_EQ(std::ssize(all), count);
  for (int64_t expert = 0; expert < count; ++expert) {
    const Routing::Rows one = routing.rows_of(expert);
    EXPECT_TRUE(at::equal(all[expert].tokens, one.tokens)) << expert;
    EXPECT_TRUE(at::equal(all[expert].weights, one.weights)) << expert;
  }
  EXPECT_EQ(all.back().tokens.numel(), 0);
  const Routing::Order order = routing.order(count);
  EXPECT_TRUE(at::equal(order.begins.diff(), at::bincount(experts.flatten(), {}, count)));
  EXPECT_TRUE(
      at::equal(experts.flatten().index_select(0, order.places), std::get<0>(experts.flatten().sort())));
}

TEST(Routing, AnExpertWithoutTokensHasNoRows) {
  const Routing routing{at::tensor({2, 0, 0, 2}, at::kLong).view({2, 2}), at::rand({2, 2})};
  EXPECT_EQ(routing.rows_of(1).tokens.numel(), 0);
  EXPECT_EQ(routing.rows_of(1).weights.numel(), 0);
  EXPECT_TRUE(at::equal(routing.rows_of(0).tokens, at::tensor({0, 1}, at::kLong)));
  EXPECT_EQ(routing.rows_of(0).weights[1].item<float>(), routing.weights[1][0].item<float>());
}

TEST(BlockForward, AttentionInChunksIsTheWhole) {
  // Longer than a window and two chunks of queries, so that windows reach over chunks' edges.
  for (const char* family : {"gemma2", "mistral"}) {
    for (const int64_t window : {40, 300}) {
      const SmallModel model(
          with(family_config(family), {{"sliding_window", window}, {"max_position_embeddings", 1024}}));
      const at::Tensor hidden = random_hidden(1, 600);
      const at::Tensor expected = Naive(model).run(hidden);
      EXPECT_LT(relative_difference(model.run(hidden).to(at::kDouble), expected), 4e-6)
          << family << " " << window;
    }
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
  for (const json& config : all_variants()) {
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
  EXPECT_THROW(model.weights.weight(model.graph.lm_head()), InternalError);
  EXPECT_FALSE(model.weights.bias(k).defined());
}

TEST(Head, NormsThenProjects) {
  const ModelGraph graph = graph_of(small_config());
  const RandomWeights source(graph);
  const at::Tensor norm = source.load("model.norm.weight"), weight = source.load("lm_head.weight");
  const at::Tensor hidden = random_hidden(2, 3);
  const at::Tensor expected = at::matmul(naive_norm(hidden, norm, graph.config.rms_norm_eps), weight.t());
  EXPECT_LT(relative_difference(head(graph, norm, weight, at::Tensor(), hidden), expected), 1e-6);
  ModelGraph capped = graph;
  capped.config.final_softcap = 1.5;
  EXPECT_LT(
      relative_difference(head(capped, norm, weight, at::Tensor(), hidden), 1.5 * at::tanh(expected / 1.5)),
      1e-6);
  ModelGraph plus = graph;
  plus.final_norm().one_plus = true;
  EXPECT_LT(relative_difference(head(plus, norm - 1, weight, at::Tensor(), hidden), expected), 2e-6);
  const at::Tensor bias = at::arange(40, at::kFloat);
  EXPECT_LT(relative_difference(head(graph, norm, weight, bias, hidden), expected + bias), 1e-6);
}

TEST(Embed, TakesRows) {
  const at::Tensor table = at::arange(12, at::kFloat).view({4, 3});
  const at::Tensor ids = at::tensor({3, 0, 1, 1}, at::kLong).view({2, 2});
  const at::Tensor expected = at::tensor({9.f, 10.f, 11.f, 0.f, 1.f, 2.f, 3.f, 4.f, 5.f, 3.f, 4.f, 5.f});
  ModelGraph graph = graph_of(small_config());
  EXPECT_TRUE(at::equal(embed(graph, table, ids), expected.view({2, 2, 3})));
  graph.config.embedding_scale = 0.5;
  EXPECT_TRUE(at::equal(embed(graph, table, ids), expected.view({2, 2, 3}) * 0.5));
}

}  // namespace
}  // namespace lathe
