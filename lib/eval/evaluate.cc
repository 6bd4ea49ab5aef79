#include "lib/eval/evaluate.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <map>
#include <numeric>
#include <span>
#include <vector>

#include "lib/activations/embed_samples.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/base/process_memory.h"
#include "lib/eval/logit_sums.h"
#include "lib/eval/pieced_head.h"
#include "lib/eval/quantile.h"
#include "lib/kernels/input_overflow.h"
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
        hidden_(store_spec(storage, ids.size(0), ids.size(1), graph_.config.hidden_size, device)),
        head_(input, role_, device) {
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
  int64_t vocabulary() const { return graph_.config.vocab_size; }

  /// Once: moves the hidden states through all blocks. `done` is called after each.
  void run_blocks(const std::vector<RowRange>& chunks, const std::function<void()>& done) {
    BlockLoader loader(graph_, weights_, device_, compute_);
    for (const Block& block : graph_.blocks) {
      run_block(block, loader.next(), chunks);
      done();
    }
  }

  PiecedHead& head() { return head_; }

  /// Of all that run_blocks() rounded to static scales. Waits for the device.
  std::map<std::string, InputOverflow> overflows() const {
    std::map<std::string, InputOverflow> found;
    for (const auto& [linear, count] : clipped_)
      found[linear] = {count.values, count.overflowed.item<int64_t>()};
    return found;
  }

  /// The final hidden states of a chunk: [1, positions, width], until the next call.
  at::Tensor final_states(RowRange rows) { return hidden_.read(rows).reshape({1, -1, hidden_.width()}); }

 private:
  /// Sums of integers: the same in chunks of any size. On a GPU they are queued there.
  struct Clipped {
    int64_t values = 0;
    at::Tensor overflowed;  // Long scalar

    void add(const at::Tensor& x, const InputQuantizer& quantizer) {
      const at::Tensor found = kernels::count_overflow(x, quantizer);
      overflowed = overflowed.defined() ? overflowed + found : found;
      values += x.numel();
    }
  };

  void run_block(const Block& block, const BlockWeights& weights, const std::vector<RowRange>& chunks) {
    BlockForward forward(graph_.config, block, weights, rope_);
    forward.watch_inputs([this](const Linear& linear, const at::Tensor& x, const InputQuantizer& quantizer) {
      if (!quantizer.scheme.dynamic) clipped_[linear.name].add(x, quantizer);
    });
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
  PiecedHead head_;
  std::map<std::string, Clipped> clipped_;  // by linear
};

EvalResult result_of(const LogitSums& model, int64_t tokens) {
  const double bits = model.negative_log_likelihood() / static_cast<double>(tokens) / std::log(2.0);
  return {
      .tokens = tokens, .perplexity = std::exp2(bits), .bits_per_token = bits, .divergence = std::nullopt};
}

EvalResult::Divergence divergence_of(const DivergenceSums& sums, int64_t tokens) {
  const at::Tensor kl = std::get<0>(sums.divergence().cpu().sort());
  const std::span<const double> values(kl.const_data_ptr<double>(), static_cast<size_t>(kl.numel()));
  const auto positions = static_cast<double>(values.size());
  const auto same = sums.model().best().eq(sums.reference().best()).sum().item<int64_t>();
  return {.mean = std::accumulate(values.begin(), values.end(), 0.0) / positions,
          .median = sorted_quantile(values, 0.5),
          .p99 = sorted_quantile(values, 0.99),
          .same_top = static_cast<double>(same) / positions,
          .reference_perplexity = result_of(sums.reference(), tokens).perplexity};
}

EvalPositions positions_of(const LogitSums& sums) {
  return {sums.best().cpu(), sums.best_probability().cpu(), sums.target_probability().cpu()};
}

/// The token after each position of each row, -1 after the last: [rows * ctx].
at::Tensor next_tokens(const at::Tensor& ids) {
  at::Tensor targets = ids.roll(-1, 1);
  targets.select(1, ids.size(1) - 1).fill_(-1);
  return targets.flatten();
}

/// One pass over the vocabulary: each piece of the head is read once, and all positions pass by it.
template <class AddLogits>
void for_each_piece(Stream& model, Stream* reference, const std::vector<RowRange>& chunks, int64_t ctx,
                    const HeadPieces& pieces, const AddLogits& add) {
  for (Stream* stream : {&model, reference}) {
    if (stream != nullptr) stream->head().open();
  }
  for (const RowRange tokens : cut_rows(model.vocabulary(), pieces.tokens)) {
    // The last pieces' memory: rows and logits differ in size, and would be laid beside what is free of them.
    model.head().drop();
    if (reference != nullptr) reference->head().drop();
    release_free_memory();
    model.head().load(tokens);
    if (reference != nullptr) reference->head().load(tokens);
    for (const RowRange rows : chunks) {
      const at::Tensor states = model.final_states(rows);
      const at::Tensor others = reference != nullptr ? reference->final_states(rows) : at::Tensor();
      for (const RowRange slice : cut_rows(rows.count * ctx, pieces.positions)) {
        throw_if_cancelled();
        const at::Tensor logits = model.head().logits(states.narrow(1, slice.first, slice.count));
        const LogitPlace place{rows.first * ctx + slice.first, tokens.first};
        add(logits,
            reference != nullptr ? reference->head().logits(others.narrow(1, slice.first, slice.count))
                                 : others,
            place);
      }
    }
  }
}

EvalResult score_logits(Stream& model, Stream* reference, const at::Tensor& ids,
                        const std::vector<RowRange>& chunks, const HeadPieces& pieces, c10::Device device,
                        EvalDetails* details) {
  const int64_t ctx = ids.size(1), tokens = ids.size(0) * (ctx - 1);
  const at::Tensor targets = next_tokens(ids).to(device);
  if (reference == nullptr) {
    LogitSums sums(targets);
    for_each_piece(
        model, nullptr, chunks, ctx, pieces,
        [&](const at::Tensor& logits, const at::Tensor&, LogitPlace place) { sums.add(logits, place); });
    if (details != nullptr) details->model = positions_of(sums);
    return result_of(sums, tokens);
  }
  DivergenceSums sums(targets);
  for_each_piece(model, reference, chunks, ctx, pieces,
                 [&](const at::Tensor& logits, const at::Tensor& others, LogitPlace place) {
                   sums.add(logits, others, place);
                 });
  EvalResult result = result_of(sums.model(), tokens);
  result.divergence = divergence_of(sums, tokens);
  if (details != nullptr)
    *details = {positions_of(sums.model()), positions_of(sums.reference()), sums.divergence().cpu()};
  return result;
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

HeadPieces eval_head_pieces(const EvalInput& model, const std::optional<EvalInput>& reference,
                            c10::Device device) {
  const ModelConfig& config = model.graph->config;
  const int64_t other = reference ? reference->graph->config.hidden_size : 0;
  return head_pieces(config.vocab_size, std::max(config.hidden_size, other), device);
}

EvalResult evaluate(const EvalInput& model, const std::optional<EvalInput>& reference, const at::Tensor& ids,
                    c10::Device device, const std::function<void(int64_t, int64_t)>& progress,
                    const HiddenStorage& storage, DType compute, EvalDetails* details) {
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
  EvalResult result = score_logits(stream, other ? &*other : nullptr, ids, chunks,
                                   eval_head_pieces(model, reference, device), device, details);
  result.overflows = stream.overflows();
  step();
  return result;
}

}  // namespace lathe
