#include "calib/driver/block_pass.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <tuple>
#include <utility>

#include "calib/driver/experts_pass.h"
#include "calib/driver/fold.h"
#include "calib/stats/stats_collector.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/base/process_memory.h"
#include "lib/model/cached_attention.h"
#include "lib/numeric/hadamard.h"
#include "lib/tensor/copy_stream.h"

namespace lathe {
namespace {

/// A copy shares the tensors; what is set later in one is not seen in the other.
std::optional<BlockWeights> originals(const CalibrationJob& job, const BlockWeights& weights) {
  const bool needed = job.propagate == Propagate::reference || carries_two_streams(job);
  return needed ? std::optional(weights) : std::nullopt;
}

std::vector<float> cache_scales(const Block& block, const KvCacheScheme& scheme, const char* what,
                                const at::Tensor& largest) {
  const at::Tensor values = scheme.per_head ? largest.cpu() : largest.max().reshape({1}).cpu();
  std::vector<float> scales;
  for (const float value : std::span(values.const_data_ptr<float>(), static_cast<size_t>(values.numel()))) {
    if (!std::isfinite(value))
      user_error("{}: {} are not finite; no KV cache holds them", block.prefix, what);
    scales.push_back(kv_cache_scale(scheme, value));
  }
  return scales;
}

/// "mlp_in (gate_proj, up_proj)": an input with the modules that it goes into, for errors.
std::string with_readers(const Block& block, Slot slot) {
  std::string readers;
  for (const Linear* linear : block.reading(slot)) {
    const std::string module = linear->name.substr(linear->name.rfind('.') + 1);
    readers += readers.empty() ? module : ", " + module;
  }
  return readers.empty() ? std::string(name_of(slot)) : fmt::format("{} ({})", name_of(slot), readers);
}

/// Samples that are computed together.
int64_t micro_batch(const CalibrationJob& job) {
  return job.storage.micro_batch > 0 ? job.storage.micro_batch : chunk_rows(job.ids.size(1), job.device);
}

}  // namespace

BlockPass::BlockPass(const CalibrationJob& job, size_t index, BlockWeights weights, const RopeTables& rope,
                     const at::Tensor& counted, CacheGradients* gradients, Streams& streams)
    : job_(job),
      block_(job.graph->part(index)),
      rope_(rope),
      counted_(counted),
      gradients_(gradients),
      weights_(std::move(weights)),
      original_(originals(job, weights_)),
      solver_(job, index, weights_),
      observed_(job.graph->config, block_, job.propagate == Propagate::reference ? *original_ : weights_,
                rope, streams.observed),
      chunks_(cut_rows(job.ids.size(0), micro_batch(job))) {
  if (streams.reference) {
    reference_.emplace(job.graph->config, block_, *original_, rope, *streams.reference);
  }
}

/// What makes a slot's values as its linears' solvers see them: rotated in blocks, where their schemes are.
BlockPass::Produce BlockPass::seen_by_solvers(const Produce& produce, int64_t rotation) {
  if (rotation == 0) return produce;
  return [produce, rotation](BlockStream& stream, RowRange rows) {
    const at::Tensor values = produce(stream, rows);
    return hadamard_blocks(values, rotation).to(values.scalar_type());
  };
}

BlockOutcome BlockPass::run(const Progress& progress) {
  try {
    return &block_ == &job_.graph->head ? run_head(progress) : run_slots(progress);
  } catch (const std::exception&) {
    // On a GPU an algorithm may stumble over a value that was not looked at yet, and blame a weight for it.
    solver_.checks().read();
    throw;
  }
}

BlockOutcome BlockPass::run_slots(const Progress& progress) {
  progress("attention input");
  calibrate(Slot::attention_in, [](BlockStream& s, RowRange rows) { return s.attention_in(rows); });
  progress("attention");
  for_each_stream([](BlockStream& s) { s.begin_attention_out(); });
  calibrate(Slot::attention_out, [](BlockStream& s, RowRange rows) { return s.attention_out(rows); });
  if (job_.kv_cache) job_.kv_cache->low_bit() ? sample_cache() : observe_cache();
  progress("mlp input");
  calibrate(Slot::mlp_in, [](BlockStream& s, RowRange rows) { return s.mlp_in(rows); });
  if (block_.experts) calibrate_experts(progress);
  if (!block_.experts || block_.has_shared_expert()) {
    progress("mlp");
    for_each_stream([](BlockStream& s) { s.begin_mlp_mid(); });
    calibrate(Slot::mlp_mid, [](BlockStream& s, RowRange rows) { return s.mlp_mid(rows); });
  }
  leave();
  BlockOutcome outcome = solver_.take_outcome();
  if (job_.kv_cache && job_.kv_cache->low_bit()) {
    outcome.kv_cache = cache_sample_ ? cache_sample_->fit(kv_cache_shape(job_.graph->config), block_.prefix)
                                     : KvCacheQuantizer{*job_.kv_cache};
    cache_sample_.reset();
  } else if (job_.kv_cache) {
    outcome.kv_cache = {*job_.kv_cache, cache_scales(block_, *job_.kv_cache, "keys", largest_key_),
                        cache_scales(block_, *job_.kv_cache, "values", largest_value_)};
  }
  return outcome;
}

BlockOutcome BlockPass::run_head(const Progress& progress) {
  progress("input");
  calibrate(Slot::head_in, [](BlockStream& s, RowRange rows) { return s.attention_in(rows); });
  return solver_.take_outcome();
}

void BlockPass::calibrate(Slot slot, const Produce& produce) {
  const Input input{slot, std::nullopt};
  const std::vector<size_t> readers = solver_.readers(input), followers = solver_.followers(input);
  if (followers.empty()) {
    if (slot != Slot::mlp_in) return;  // only this sweep moves the streams on
    sweep([&](RowRange rows) { for_each_stream([&](BlockStream& s) { produce(s, rows); }); });
    drop_used_weights(slot);
    return;
  }
  // Statistics are large: where memory is short, the weights that make the values go first.
  const bool apart = job_.storage.sparing && slot == Slot::mlp_mid && job_.storage.inner.has_value();
  if (apart) {
    sweep([&](RowRange rows) { for_each_stream([&](BlockStream& s) { produce(s, rows); }); });
    drop_used_weights(slot);
    release_free_memory();
  }
  const StatSet wanted = solver_.needs(followers);
  std::optional<StatsCollector> collector =
      collector_for(wanted, block_.linears[followers.front()].in, with_readers(block_, slot));
  collector->limit_gram(solver_.gram_tokens(followers));
  const Produce again = [slot](BlockStream& s, RowRange rows) { return s.again(slot, rows); };
  const Produce seen = seen_by_solvers(apart ? again : produce, solver_.rotation(followers));
  sweep([&](RowRange rows) { observe(*collector, wanted.cross_gram, seen, rows); });
  if (!apart) drop_used_weights(slot);
  InputStats stats = collector->finish(&solver_.checks());
  collector.reset();  // its sums are as large as the statistics
  solver_.describe(input, stats);
  const bool before_experts = block_.experts && slot == Slot::mlp_in;
  std::vector<at::Tensor> divisors;
  solver_.fold(
      input, stats,
      [&](const at::Tensor& scales) {
        // The unquantised model's values are as they were: its weights are not folded.
        if (job_.propagate == Propagate::quantised) observed_.folded(slot, scales);
        divisors.push_back(scales);
      },
      [&](InputStats& unknown) { observe_lost(slot, divisors, unknown); });
  if (solver_.lost(followers, stats) != StatSet{}) observe_lost(slot, divisors, stats);
  if (before_experts) divisors_ = divisors;
  if (!readers.empty())
    job_.storage.sparing ? solver_.solve_sparingly(readers, stats) : solver_.solve(readers, stats);
  if (before_experts) mlp_in_ = std::move(stats);
  release_free_memory();  // what statistics and solvers took must not add up
}

void BlockPass::observe_lost(Slot slot, const std::vector<at::Tensor>& divisors, InputStats& stats) {
  const StatSet wanted = stats.lost;
  StatsCollector collector = collector_for(wanted, block_.reading(slot).front()->in,
                                           fmt::format("{}, folded", with_readers(block_, slot)));
  sweep([&](RowRange rows) {
    at::Tensor values = observed_.again(slot, rows);
    if (job_.propagate == Propagate::reference) {  // the unquantised model's weights are not folded
      values = after_folds(values, divisors);
    }
    collector.observe(values, counted(rows));
  });
  stats.recover(wanted, collector.finish(&solver_.checks()));
}

void BlockPass::calibrate_experts(const Progress& progress) {
  progress("routing");
  routes_ = std::make_shared<const ExpertRoutes>(block_, observed_, chunks_);
  if (reference_) reference_routes_ = std::make_shared<const ExpertRoutes>(block_, *reference_, chunks_);
  ExpertsPass(job_, block_, solver_, observed_, reference_ ? &*reference_ : nullptr, routes_, counted_,
              chunks_)
      .run(mlp_in_, divisors_, progress);
  mlp_in_ = {};
  divisors_.clear();
  release_free_memory();
}

// After the folds into o_proj, which change values. Where statistics are those of the unquantised model, so
// are the hidden states here; the weights are those that the artefact gets in either case.
void BlockPass::observe_cache() {
  const BlockForward forward(job_.graph->config, block_, weights_, rope_);
  largest_key_ = at::zeros({kv_cache_shape(job_.graph->config).heads},
                           at::TensorOptions().dtype(at::kFloat).device(job_.device));
  largest_value_ = largest_key_.clone();
  sweep([&](RowRange rows) {
    const auto [keys, values] = forward.keys_and_values(observed_.attention_in(rows, forward));
    const at::Tensor mask = counted(rows);
    for (auto [largest, made] : {std::pair(&largest_key_, &keys), {&largest_value_, &values}}) {
      at::Tensor of_tokens =
          made->abs().amax(3).transpose(1, 2).flatten(0, 1).to(at::kFloat);  // [b s, heads]
      if (mask.defined())
        of_tokens = of_tokens.masked_fill(queued_copy(mask, job_.device).logical_not().unsqueeze(1), 0);
      *largest = at::maximum(*largest, of_tokens.amax(0));
    }
  });
}

void BlockPass::sample_cache() {
  if (!job_.kv_cache->calibrated()) return;
  const ModelConfig& config = job_.graph->config;
  const BlockForward forward(config, block_, weights_, rope_);
  const AttentionRule rule{block_.attention_scale, block_.sliding_window, block_.attention_softcap};
  const auto& [cos, sin] =
      block_.local_rope ? std::tie(rope_.local_cos, rope_.local_sin) : std::tie(rope_.cos, rope_.sin);
  KvCacheSample& sample = cache_sample_.emplace(*job_.kv_cache);
  const int64_t taken = cache_sample_rows(job_);
  for (const RowRange chunk : chunks_) {
    if (chunk.first >= taken) break;
    throw_if_cancelled();
    const RowRange rows{chunk.first, std::min(chunk.end(), taken) - chunk.first};
    const AttentionInputs inputs = forward.attention_inputs(observed_.attention_in(rows, forward));
    sample.add(inputs,
               gradients_ != nullptr ? gradients_->of(static_cast<size_t>(block_.index), rows)
                                     : cache_sensitivity(inputs, cos, sin, rule),
               counted_.defined() ? counted_.narrow(0, rows.first, rows.count) : at::Tensor());
  }
}

void BlockPass::drop_used_weights(Slot slot) {
  if (slot == Slot::mlp_in) {
    for_each_stream([](BlockStream& s) { s.attention_done(); });
    drop_readers(Slot::attention_in);
    drop_readers(Slot::attention_out);
  }
  // Gate and up, where what they make is kept; unless a fold may still change what is written of them.
  const std::vector<const Linear*> readers = block_.reading(Slot::mlp_in);
  const auto solved = [&](const Linear* linear) { return solver_.solved(*linear); };
  if (slot == Slot::mlp_mid && !block_.experts && job_.storage.inner && std::ranges::all_of(readers, solved))
    drop_readers(Slot::mlp_in);
}

void BlockPass::drop_readers(Slot slot) {
  for (const Linear* linear : block_.reading(slot)) {
    weights_.drop_weight(*linear);
    if (original_) original_->drop_weight(*linear);
  }
}

void BlockPass::observe(StatsCollector& collector, bool pair, const Produce& produce, RowRange rows) {
  const at::Tensor mask = counted(rows);
  const at::Tensor values = produce(observed_, rows);
  // Where the observed stream is the unquantised model's, it is its own reference.
  const at::Tensor reference = reference_ ? produce(*reference_, rows) : values;
  if (pair) {
    collector.observe_pair(values, reference, mask, weights(rows));
  } else {
    collector.observe(values, mask, weights(rows));
  }
}

void BlockPass::leave() {
  // Of every block: a norm turns what overflowed into small numbers, and the next block would look harmless.
  StatsCollector output = collector_for({}, job_.graph->config.hidden_size, "output");
  const auto routed = [&](const std::shared_ptr<const ExpertRoutes>& routes, size_t chunk) {
    return routes ? routes->by_expert(chunk, job_.device) : std::vector<Routing::Rows>();
  };
  size_t chunk = 0;
  sweep([&](RowRange rows) {
    const at::Tensor values = observed_.leave(rows, routed(routes_, chunk));
    if (reference_) reference_->leave(rows, routed(reference_routes_, chunk));
    output.observe(values, counted(rows));
    ++chunk;
  });
  output.finish(&solver_.checks());  // refuses what is not finite
}

at::Tensor BlockPass::counted(RowRange rows) const {
  return counted_.defined() ? counted_.narrow(0, rows.first, rows.count).flatten() : at::Tensor();
}

at::Tensor BlockPass::weights(RowRange rows) const {
  const at::Tensor& all = job_.token_weights;
  return all.defined() ? all.narrow(0, rows.first, rows.count).flatten() : at::Tensor();
}

StatsCollector BlockPass::collector_for(StatSet wanted, int64_t width, std::string_view input) const {
  const int64_t length = job_.ids.size(1);
  return {wanted, width, job_.device, fmt::format("{}, {}", block_.prefix, input), [length](int64_t token) {
            return fmt::format("sample {}, token {}", token / length, token % length);
          }};
}

void BlockPass::sweep(const std::function<void(RowRange)>& visit) const {
  for (const RowRange rows : chunks_) {
    throw_if_cancelled();
    visit(rows);
  }
}

void BlockPass::for_each_stream(const std::function<void(BlockStream&)>& action) {
  action(observed_);
  if (reference_) action(*reference_);
}

}  // namespace lathe
