#include "lib/eval/evaluate.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "lib/base/error.h"
#include "lib/eval/quantile.h"
#include "lib/model/forward.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;

/// Random weights in memory.
class Weights : public WeightSource {
 public:
  Weights(const ModelGraph& graph, uint64_t seed, double scale) {
    at::manual_seed(seed);
    for (const auto& [name, shape] : graph.expected_tensors()) tensors[name] = at::randn(shape) * scale;
  }
  bool contains(const std::string& name) const override { return tensors.contains(name); }
  at::Tensor load(const std::string& name) const override { return tensors.at(name).clone(); }

  std::map<std::string, at::Tensor> tensors;
};

ModelGraph tiny_graph(bool tied, int64_t layers = 2, int64_t vocabulary = 61) {
  const nlohmann::json config = {{"architectures", {"LlamaForCausalLM"}},
                                 {"model_type", "llama"},
                                 {"dtype", "float32"},
                                 {"hidden_size", 32},
                                 {"intermediate_size", 48},
                                 {"num_hidden_layers", layers},
                                 {"num_attention_heads", 4},
                                 {"num_key_value_heads", 2},
                                 {"head_dim", 8},
                                 {"vocab_size", vocabulary},
                                 {"max_position_embeddings", 8192},
                                 {"rms_norm_eps", 1e-5},
                                 {"hidden_act", "silu"},
                                 {"attention_bias", false},
                                 {"mlp_bias", false},
                                 {"tie_word_embeddings", tied},
                                 {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 10000.0}}}};
  return build_graph(parse_model_config(config, "config.json"));
}

/// Log-probabilities of one row in double, the model run on that row alone: [ctx, vocab].
at::Tensor direct_log_p(const ModelGraph& graph, const Weights& weights, const at::Tensor& row) {
  const at::Tensor embedding = weights.load("model.embed_tokens.weight");
  at::Tensor hidden = embed(graph, embedding, row.unsqueeze(0));
  const RopeTables rope = rope_tables(graph.config, row.numel(), at::kCPU);
  for (const Block& block : graph.blocks) {
    const BlockWeights loaded(block, weights, at::kCPU);
    hidden = BlockForward(graph.config, block, loaded, rope).run(hidden);
  }
  const at::Tensor last = graph.config.tie_word_embeddings ? embedding : weights.load("lm_head.weight");
  const at::Tensor logits = head(graph, weights.load("model.norm.weight"), last, {}, hidden)[0];
  return at::log_softmax(logits.to(at::kDouble), -1);
}

/// The definition, value by value.
EvalResult direct(const ModelGraph& graph, const Weights& model, const Weights& reference,
                  const at::Tensor& ids) {
  double nll = 0, reference_nll = 0;
  int64_t same = 0, count = 0;
  std::vector<double> kl;
  for (int64_t r = 0; r < ids.size(0); ++r) {
    const at::Tensor p = direct_log_p(graph, model, ids[r]), q = direct_log_p(graph, reference, ids[r]);
    const auto lp = p.accessor<double, 2>(), lq = q.accessor<double, 2>();
    const auto row = ids.accessor<int64_t, 2>()[r];
    for (int64_t t = 0; t < ids.size(1); ++t) {
      double divergence = 0;
      int64_t best_p = 0, best_q = 0;
      for (int64_t v = 0; v < p.size(1); ++v) {
        divergence += std::exp(lq[t][v]) * (lq[t][v] - lp[t][v]);
        if (lp[t][v] > lp[t][best_p]) best_p = v;
        if (lq[t][v] > lq[t][best_q]) best_q = v;
      }
      kl.push_back(divergence);
      same += best_p == best_q;
      if (t + 1 == ids.size(1)) continue;
      nll -= lp[t][row[t + 1]];
      reference_nll -= lq[t][row[t + 1]];
      ++count;
    }
  }
  const at::Tensor all = at::tensor(kl, at::kDouble);
  const auto tokens = static_cast<double>(count);
  return {.tokens = count,
          .perplexity = std::exp(nll / tokens),
          .bits_per_token = nll / tokens / std::log(2.0),
          .divergence =
              EvalResult::Divergence{.mean = all.mean().item<double>(),
                                     .median = at::quantile(all, 0.5).item<double>(),
                                     .p99 = at::quantile(all, 0.99).item<double>(),
                                     .same_top = static_cast<double>(same) / static_cast<double>(kl.size()),
                                     .reference_perplexity = std::exp(reference_nll / tokens)}};
}

/// Log-probabilities in FP32 carry about 1e-6; the sums after them are in double.
double kl_tolerance(double kl) { return 1e-6 + 1e-5 * kl; }

void expect_same(const EvalResult& found, const EvalResult& expected) {
  EXPECT_EQ(found.tokens, expected.tokens);
  EXPECT_NEAR(found.perplexity / expected.perplexity, 1, 1e-5);
  EXPECT_NEAR(found.bits_per_token, expected.bits_per_token, 1e-5);
  ASSERT_TRUE(found.divergence.has_value());
  EXPECT_NEAR(found.divergence->mean, expected.divergence->mean, kl_tolerance(expected.divergence->mean));
  EXPECT_NEAR(found.divergence->median, expected.divergence->median,
              kl_tolerance(expected.divergence->median));
  EXPECT_NEAR(found.divergence->p99, expected.divergence->p99, kl_tolerance(expected.divergence->p99));
  EXPECT_NEAR(found.divergence->same_top, expected.divergence->same_top, 1e-12);
  EXPECT_NEAR(found.divergence->reference_perplexity / expected.divergence->reference_perplexity, 1, 1e-5);
}

struct Pair {
  explicit Pair(bool tied) : graph(tiny_graph(tied)), model(graph, 1, 0.2), reference(graph, 1, 0.2) {
    for (auto& [name, tensor] : model.tensors) tensor += at::randn_like(tensor) * 0.02;
  }
  ModelGraph graph;
  Weights model, reference;
};

TEST(Evaluate, EqualsTheDefinition) {
  for (const bool tied : {false, true}) {
    SCOPED_TRACE(tied);
    const Pair pair(tied);
    // 7 rows of 320 tokens: chunks of 3, 3 and 1 rows.
    const at::Tensor ids = at::randint(61, {7, 320}, at::kLong);
    const EvalInput model{&pair.graph, &pair.model}, reference{&pair.graph, &pair.reference};
    const EvalResult expected = direct(pair.graph, pair.model, pair.reference, ids);
    EXPECT_LT(expected.divergence->same_top, 0.99);  // else the comparison would show nothing
    EXPECT_GT(expected.divergence->mean, 1e-4);
    expect_same(evaluate(model, reference, ids, at::kCPU, {}), expected);
    const EvalResult alone = evaluate(model, std::nullopt, ids, at::kCPU, {});
    EXPECT_FALSE(alone.divergence.has_value());
    EXPECT_NEAR(alone.perplexity / expected.perplexity, 1, 1e-5);
  }
}

TEST(Evaluate, TheSameNumbersWhereverHiddenStatesStand) {
  const Pair pair(true);
  const at::Tensor ids = at::randint(61, {7, 320}, at::kLong);
  const EvalInput model{&pair.graph, &pair.model}, reference{&pair.graph, &pair.reference};
  const EvalResult expected = evaluate(model, reference, ids, at::kCPU, {});
  for (const int64_t transfer : {0, 6, 100}) {
    const EvalResult found = evaluate(model, reference, ids, at::kCPU, {},
                                      {.placement = Placement::disk,
                                       .transfer_rows = transfer,
                                       .work = std::filesystem::temp_directory_path()});
    EXPECT_EQ(found.perplexity, expected.perplexity);
    EXPECT_EQ(found.divergence->mean, expected.divergence->mean);
  }
}

/// A head of two pieces, and pieces of logits that end within a row and within a chunk.
TEST(Evaluate, PiecesCutTheVocabularyAndTheRows) {
  const ModelGraph graph = tiny_graph(true, 1, 9000);
  const Weights model(graph, 3, 0.1), reference(graph, 4, 0.1);
  const HeadPieces pieces = head_pieces(9000, 32, at::kCPU);
  EXPECT_LT(pieces.tokens, 9000);
  EXPECT_LT(pieces.positions, 600);
  EXPECT_NE(pieces.positions % 300, 0);
  const at::Tensor ids = at::randint(9000, {2, 300}, at::kLong);
  expect_same(evaluate({&graph, &model}, EvalInput{&graph, &reference}, ids, at::kCPU, {}),
              direct(graph, model, reference, ids));
}

/// Rows of a head are looked up, or cut from all of it where that costs as much: the same values.
TEST(Evaluate, HeadsThatLookRowsUpAreTheSameInPieces) {
  class LookedUp : public Weights {
   public:
    using Weights::Weights;
    bool looks_rows_up(const std::string&) const override { return true; }
    at::Tensor load(const std::string& name) const override {
      EXPECT_NE(name, "lm_head.weight") << "a whole head is in memory";
      return Weights::load(name);
    }
    at::Tensor load_rows(const std::string& name, const at::Tensor& rows) const override {
      most = std::max(most, rows.numel());
      return tensors.at(name).index_select(0, rows);
    }
    mutable int64_t most = 0;
  };
  const ModelGraph graph = tiny_graph(false, 1, 9000);
  const Weights whole(graph, 3, 0.1);
  const LookedUp pieces(graph, 3, 0.1);
  const at::Tensor ids = at::randint(9000, {2, 30}, at::kLong);
  const EvalResult found = evaluate({&graph, &pieces}, std::nullopt, ids, at::kCPU, {});
  EXPECT_EQ(found.perplexity, evaluate({&graph, &whole}, std::nullopt, ids, at::kCPU, {}).perplexity);
  EXPECT_EQ(pieces.most, head_pieces(9000, 32, at::kCPU).tokens);
}

/// With a static scale of one linear's input and each token's of another's.
class RoundedInputs : public Weights {
 public:
  using Weights::Weights;
  std::optional<InputQuantizer> input_quantizer(const std::string& linear) const override {
    if (linear.ends_with(".1.mlp.down_proj"))
      return InputQuantizer{{"int", 8, false, ActivationScheme::Per::tensor, true}, scale};
    if (linear.ends_with(".o_proj")) return InputQuantizer{};
    return std::nullopt;
  }
  float scale = 1;
};

TEST(Evaluate, CountsWhatStaticScalesClip) {
  const ModelGraph graph = tiny_graph(true);
  RoundedInputs weights(graph, 1, 0.2);
  const at::Tensor ids = at::randint(61, {7, 320}, at::kLong);
  const EvalInput model{&graph, &weights};
  const std::string clipped = "model.layers.1.mlp.down_proj";
  int64_t before = 0;
  for (const float scale : {1.0f, 1e-3f, 1e-4f}) {
    weights.scale = scale;
    const EvalResult found = evaluate(model, model, ids, at::kCPU, {});
    ASSERT_EQ(found.overflows.size(), 1u);  // dynamic scales clip nothing
    const InputOverflow& overflow = found.overflows.at(clipped);
    EXPECT_EQ(overflow.values, 7 * 320 * 48);  // of the model alone, not of its reference
    EXPECT_TRUE(scale == 1 ? overflow.overflowed == 0 : overflow.overflowed > before);
    before = overflow.overflowed;
  }
  EXPECT_GT(before, 7 * 320 * 48 / 2);
  EXPECT_LT(before, 7 * 320 * 48);
}

TEST(Evaluate, AModelAgainstItselfDivergesNowhere) {
  const Pair pair(true);
  const at::Tensor ids = at::randint(61, {2, 33}, at::kLong);
  const EvalInput model{&pair.graph, &pair.model};
  const EvalResult result = evaluate(model, model, ids, at::kCPU, {});
  EXPECT_EQ(result.divergence->mean, 0);
  EXPECT_EQ(result.divergence->p99, 0);
  EXPECT_EQ(result.divergence->same_top, 1);
  EXPECT_EQ(result.divergence->reference_perplexity, result.perplexity);
}

TEST(Evaluate, ReferenceMayHaveAnotherDepth) {
  const ModelGraph shallow = tiny_graph(true, 1), deep = tiny_graph(true, 3);
  const Weights model(shallow, 1, 0.2), reference(deep, 1, 0.2);
  std::vector<std::pair<int64_t, int64_t>> steps;
  const at::Tensor ids = at::randint(61, {2, 16}, at::kLong);
  const auto result = evaluate({&shallow, &model}, EvalInput{&deep, &reference}, ids, at::kCPU,
                               [&](int64_t done, int64_t total) { steps.emplace_back(done, total); });
  const auto alone = evaluate({&deep, &reference}, std::nullopt, ids, at::kCPU, {});
  EXPECT_DOUBLE_EQ(result.divergence->reference_perplexity, alone.perplexity);
  ASSERT_EQ(steps.size(), 5u);
  for (size_t i = 0; i < steps.size(); ++i) EXPECT_EQ(steps[i], (std::pair<int64_t, int64_t>(i + 1, 5)));
}

TEST(Evaluate, LogitsThatAreNotFiniteFailTheCheck) {
  for (const double value :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    Pair pair(false);
    pair.model.tensors.at("lm_head.weight")[60][0] = value;
    const at::Tensor ids = at::randint(60, {2, 16}, at::kLong);
    try {
      evaluate({&pair.graph, &pair.model}, std::nullopt, ids, at::kCPU, {});
      ADD_FAILURE() << value;
    } catch (const CheckFailed& error) {
      EXPECT_THAT(error.what(), HasSubstr("model's logits are not finite"));
    }
  }
}

TEST(Evaluate, BadTokensAndVocabulariesAreTheUsersError) {
  const Pair pair(true);
  const EvalInput model{&pair.graph, &pair.model};
  const auto message = [&](const std::optional<EvalInput>& reference, const at::Tensor& ids) -> std::string {
    try {
      evaluate(model, reference, ids, at::kCPU, {});
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(message(std::nullopt, at::full({1, 8}, 61, at::kLong)),
              HasSubstr("token id 61 is outside the model's vocabulary of 61"));
  EXPECT_THAT(message(std::nullopt, at::full({1, 8}, -1, at::kLong)), HasSubstr("token id -1 is outside"));
  EXPECT_THAT(message(std::nullopt, at::zeros({0, 8}, at::kLong)),
              HasSubstr("at least one row of two tokens"));
  EXPECT_THAT(message(std::nullopt, at::zeros({3, 1}, at::kLong)),
              HasSubstr("at least one row of two tokens"));
  const ModelGraph other = tiny_graph(true, 2, 62);
  const Weights weights(other, 1, 0.2);
  EXPECT_THAT(message(EvalInput{&other, &weights}, at::zeros({1, 8}, at::kLong)),
              HasSubstr("the model's vocabulary has 61 tokens, the reference's 62"));
}

TEST(Quantile, InterpolatesAsTorchDoes) {
  at::manual_seed(2);
  for (const int64_t count : {1, 2, 3, 10, 101}) {
    const at::Tensor values = std::get<0>(at::rand({count}, at::kDouble).sort());
    const std::span<const double> view(values.const_data_ptr<double>(), static_cast<size_t>(count));
    for (const double q : {0.0, 0.01, 0.5, 0.99, 1.0}) {
      EXPECT_NEAR(sorted_quantile(view, q), at::quantile(values, q).item<double>(), 1e-15)
          << count << " " << q;
    }
  }
}

}  // namespace
}  // namespace lathe
