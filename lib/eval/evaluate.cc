#include "lib/eval/evaluate.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "lib/activations/embed_samples.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/eval/logit_slice.h"
#include "lib/eval/quantile.h"
#include "lib/model/block_loader.h"
#include "lib/model/forward.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

/// One model on its way through the rows.
class Stream {
 public:
  Stream(const EvalInput& input, std::string role, const at::Tensor& ids, c10::Device device,
         const HiddenStorage& storage, DType compute)
      : graph_(*input.graph),
        weights_(*input.weights),
        role_(std::move(role)),
        device_(device),
        compute_(compute),
        hidden_(store_spec(storage, ids.size(0), ids.size(1), graph_.config.hidden_size, device)) {
    const int64_t vocabulary = graph_.config.vocab_size;
    const auto [low, high] = at::aminmax(ids);
    if (low.item<int64_t>() < 0 || high.item<int64_t>() >= vocabulary) {
      user_error("token id {} is outside the {}'s vocabulary of {}; does the tokenizer belong to this model?",
                 low.item<int64_t>() < 0 ? low.item<int64_t>() : high.item<int64_t>(), role_, vocabulary);
    }
    rope_ = rope_tables(graph_.config, ids.size(1), device);
    embed_samples(graph_, weights_, ids, device, hidden_);
  }

  size_t blocks() const { return graph_.blocks.size(); }

  /// Once: moves the hidden states through all blocks. `done` is called after each.
  void run_blocks(const std::vector<RowRange>& chunks, const std::function<void()>& done) {
    BlockLoader loader(graph_, weights_, device_, compute_);
    for (const Block& block : graph_.blocks) {
      run_block(block, loader.next(), chunks);
      done();
    }
  }

  void load_head() {
    norm_ = load(graph_.final_norm.name + ".weight");
    head_ = load((graph_.config.tie_word_embeddings ? graph_.embedding : graph_.lm_head.name) + ".weight");
    if (graph_.lm_head.bias) bias_ = load(graph_.lm_head.name + ".bias");
  }

  /// Log-probabilities [count, vocab] of `count` positions of a chunk, counted through its rows.
  at::Tensor log_probabilities(RowRange rows, int64_t first, int64_t count) {
    const at::Tensor flat = hidden_.read(rows).reshape({1, -1, hidden_.width()});
    at::Tensor values =
        at::log_softmax(head(graph_, norm_, head_, bias_, flat.narrow(1, first, count))[0], -1);
    if (!all_finite(values)) {
      throw CheckFailed(
          fmt::format("the {}'s logits are not finite; its weights overflow or are damaged", role_));
    }
    return values;
  }

 private:
  at::Tensor load(const std::string& name) const { return weights_.load(name).to(device_); }

  void run_block(const Block& block, const BlockWeights& weights, const std::vector<RowRange>& chunks) {
    const BlockForward forward(graph_.config, block, weights, rope_);
    for (const RowRange rows : chunks) {
      throw_if_cancelled();
      hidden_.write(rows, forward.run(hidden_.read(rows)));
    }
  }

  const ModelGraph& graph_;
  const WeightSource& weights_;
  std::string role_;
  c10::Device device_;
  DType compute_;
  RopeTables rope_;
  ActivationStore hidden_;
  at::Tensor norm_, head_, bias_;
};

/// -log p of the token that follows each position, summed; a target of -1 (last of a row) does not count.
double negative_log_likelihood(const at::Tensor& log_p, const at::Tensor& targets) {
  const at::Tensor picked = log_p.gather(1, targets.clamp_min(0).unsqueeze(1)).squeeze(1).to(at::kDouble);
  return -picked.masked_select(targets.ge(0)).sum().item<double>();
}

/// What accumulates over positions, in double.
class Score {
 public:
  void add(const at::Tensor& model, const at::Tensor& targets) {
    model_nll_ += negative_log_likelihood(model, targets);
  }

  void compare(const at::Tensor& model, const at::Tensor& reference, const at::Tensor& targets) {
    reference_nll_ += negative_log_likelihood(reference, targets);
    same_ += model.argmax(-1).eq(reference.argmax(-1)).sum().item<int64_t>();
    const at::Tensor kl =
        (reference - model).mul_(reference.exp()).sum(-1, /*keepdim=*/false, at::kDouble).cpu();
    const double* values = kl.const_data_ptr<double>();
    kl_.insert(kl_.end(), values, values + kl.numel());
  }

  EvalResult result(int64_t tokens) {
    const auto count = static_cast<double>(tokens);
    EvalResult result{.tokens = tokens,
                      .perplexity = std::exp(model_nll_ / count),
                      .bits_per_token = model_nll_ / count / std::log(2.0),
                      .divergence = std::nullopt};
    if (kl_.empty()) return result;
    const auto positions = static_cast<double>(kl_.size());
    std::sort(kl_.begin(), kl_.end());
    result.divergence = {.mean = std::accumulate(kl_.begin(), kl_.end(), 0.0) / positions,
                         .median = sorted_quantile(kl_, 0.5),
                         .p99 = sorted_quantile(kl_, 0.99),
                         .same_top = static_cast<double>(same_) / positions,
                         .reference_perplexity = std::exp(reference_nll_ / count)};
    return result;
  }

 private:
  double model_nll_ = 0, reference_nll_ = 0;
  int64_t same_ = 0;
  std::vector<double> kl_;
};

/// The token after each position of each row, -1 after the last: [rows * ctx].
at::Tensor next_tokens(const at::Tensor& ids) {
  at::Tensor targets = ids.roll(-1, 1);
  targets.select(1, ids.size(1) - 1).fill_(-1);
  return targets.flatten();
}

void score_logits(Stream& model, Stream* reference, const at::Tensor& ids,
                  const std::vector<RowRange>& chunks, int64_t vocabulary, c10::Device device, Score& score) {
  model.load_head();
  if (reference != nullptr) reference->load_head();
  const int64_t slice = std::max<int64_t>(1, kLogitValues / vocabulary);
  for (const RowRange rows : chunks) {
    const at::Tensor targets = next_tokens(ids.narrow(0, rows.first, rows.count)).to(device);
    for (int64_t first = 0; first < targets.numel(); first += slice) {
      throw_if_cancelled();
      const int64_t count = std::min(slice, targets.numel() - first);
      const at::Tensor wanted = targets.narrow(0, first, count);
      const at::Tensor log_p = model.log_probabilities(rows, first, count);
      score.add(log_p, wanted);
      if (reference != nullptr)
        score.compare(log_p, reference->log_probabilities(rows, first, count), wanted);
    }
  }
}

void check_input(const EvalInput& model, const std::optional<EvalInput>& reference, const at::Tensor& ids) {
  LATHE_ASSERT(ids.dim() == 2 && ids.scalar_type() == at::kLong, "evaluate: ids must be Long [rows, ctx]");
  if (ids.size(0) < 1 || ids.size(1) < 2) {
    user_error("evaluation needs at least one row of two tokens, found {} rows of {}", ids.size(0),
               ids.size(1));
  }
  if (!reference) return;
  const int64_t ours = model.graph->config.vocab_size, theirs = reference->graph->config.vocab_size;
  if (ours != theirs) {
    user_error("the model's vocabulary has {} tokens, the reference's {}: their logits can't be compared",
               ours, theirs);
  }
}

}  // namespace

EvalResult evaluate(const EvalInput& model, const std::optional<EvalInput>& reference, const at::Tensor& ids,
                    c10::Device device, const std::function<void(int64_t, int64_t)>& progress,
                    const HiddenStorage& storage, DType compute) {
  const c10::NoGradGuard no_grad;
  check_input(model, reference, ids);
  Stream stream(model, "model", ids, device, storage, compute);
  std::optional<Stream> other;
  if (reference) other.emplace(*reference, "reference model", ids, device, storage, compute);
  const std::vector<RowRange> chunks = cut_rows(ids.size(0), chunk_rows(ids.size(1), device));
  const size_t other_blocks = other ? other->blocks() : 0;
  const auto total = static_cast<int64_t>(stream.blocks() + other_blocks + 1);  // the head counts as one
  int64_t done = 0;
  const auto step = [&] {
    ++done;
    if (progress) progress(done, total);
  };
  // One after the other: two models' blocks at a time would take more than all else in a run.
  stream.run_blocks(chunks, step);
  if (other) other->run_blocks(chunks, step);
  Score score;
  score_logits(stream, other ? &*other : nullptr, ids, chunks, model.graph->config.vocab_size, device, score);
  step();
  return score.result(ids.size(0) * (ids.size(1) - 1));
}

}  // namespace lathe
