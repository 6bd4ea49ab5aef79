#include "calib/driver/experts_pass.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "lib/base/cancel.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

/// Gram matrices in FP64 while they are summed, and the chunk of rows that waits.
int64_t collector_bytes(const StatSet& wanted, int64_t width) {
  const int64_t matrices = (wanted.gram ? 1 : 0) + (wanted.cross_gram ? 1 : 0);
  return matrices * width * width * 8 + StatsCollector::kChunkTokens * width * 4;
}

/// What can be said without activations: each input channel once, all alike, so that the Gram matrix is a
/// multiple of the identity and an output's error that of the weights.
InputStats weight_only(const StatSet& wanted, int64_t width, c10::Device device, const std::string& where) {
  StatsCollector collector(wanted, width, device, where);
  const at::Tensor channels = at::eye(width, at::TensorOptions().dtype(at::kFloat).device(device));
  if (wanted.cross_gram) {
    collector.observe_pair(channels, channels);
  } else {
    collector.observe(channels);
  }
  return collector.finish();
}

}  // namespace

ExpertsPass::ExpertsPass(const CalibrationJob& job, const Block& block, InputSolver& solver,
                         const BlockStream& observed, const BlockStream* reference, const at::Tensor& counted,
                         const std::vector<RowRange>& chunks)
    : job_(job),
      block_(block),
      solver_(solver),
      observed_(observed),
      reference_(reference),
      counted_(counted),
      chunks_(chunks) {}

void ExpertsPass::run(const InputStats& all_tokens, const std::vector<at::Tensor>& divisors,
                      const Progress& progress) {
  divisors_ = divisors;
  progress("routing");
  count_tokens();
  for (const Slot slot : {Slot::mlp_in, Slot::mlp_mid}) {
    for (const std::vector<int64_t>& experts : groups(slot)) {
      progress(fmt::format("{} of experts {} to {}", name_of(slot), experts.front(), experts.back()));
      calibrate(slot, experts, all_tokens);
    }
  }
  solver_.set_expert_tokens(tokens_);
}

void ExpertsPass::count_tokens() {
  at::Tensor counts = at::zeros({block_.experts->count}, at::TensorOptions().dtype(at::kLong));
  for (const RowRange rows : chunks_) {
    throw_if_cancelled();
    at::Tensor experts = observed_.forward().route(observed_.mlp_in_again(rows)).experts.cpu();
    if (counted_.defined()) {
      const at::Tensor mask = counted_.narrow(0, rows.first, rows.count).flatten();
      experts = experts.index({mask});
    }
    counts += at::bincount(experts.flatten(), /*weights=*/{}, block_.experts->count);
  }
  tokens_.assign(counts.const_data_ptr<int64_t>(), counts.const_data_ptr<int64_t>() + counts.numel());
}

/// Experts that have something to solve, in order, as many together as their statistics' size allows.
std::vector<std::vector<int64_t>> ExpertsPass::groups(Slot slot) const {
  std::vector<std::vector<int64_t>> result;
  int64_t bytes = 0;
  for (int64_t expert = 0; expert < block_.experts->count; ++expert) {
    const std::vector<size_t> readers = solver_.readers({slot, expert});
    if (readers.empty()) continue;
    const int64_t more = collector_bytes(solver_.needs(readers), block_.linears[readers.front()].in);
    if (result.empty() || bytes + more > kExpertStatisticsBytes) {
      result.emplace_back();
      bytes = 0;
    }
    result.back().push_back(expert);
    bytes += more;
  }
  return result;
}

void ExpertsPass::calibrate(Slot slot, const std::vector<int64_t>& experts, const InputStats& all_tokens) {
  std::vector<Task> tasks;
  for (const int64_t expert : experts) tasks.push_back(task({slot, expert}));
  if (std::ranges::any_of(tasks, [](const Task& t) { return t.collector.has_value(); })) sweep(slot, tasks);
  for (Task& task : tasks) {
    const Input input{slot, task.expert};
    InputStats stats = statistics(slot, task, all_tokens);
    task.collector.reset();
    const bool blind = below_floor(task.expert) && job_.experts.fallback == ExpertFallback::weight_only;
    if (blind) {
      solver_.leave_edges(input, "too few tokens for a scale: " + fallback_note(task.expert));
    } else {
      solver_.fold(input, stats, [](const at::Tensor&) {});  // mlp_mid is made again, from the folded weights
    }
    solver_.solve(task.readers, stats, below_floor(task.expert) ? fallback_note(task.expert) : "");
  }
}

ExpertsPass::Task ExpertsPass::task(const Input& input) const {
  Task task{.expert = *input.expert,
            .readers = solver_.readers(input),
            .all_rows = false,
            .collector = std::nullopt,
            .shown = nullptr};
  const bool below = below_floor(task.expert);
  if (below && job_.experts.fallback == ExpertFallback::weight_only) return task;
  if (below && input.slot == Slot::mlp_in) return task;  // all tokens' statistics are there
  task.all_rows = below;
  task.shown = std::make_shared<std::vector<int64_t>>();
  const int64_t length = job_.ids.size(1);
  task.collector.emplace(solver_.needs(task.readers), block_.linears[task.readers.front()].in, job_.device,
                         fmt::format("{}, {}", block_.prefix, name_of(input)),
                         [length, shown = task.shown](int64_t token) {
                           const int64_t place = shown->at(token);
                           return fmt::format("sample {}, token {}", place / length, place % length);
                         });
  return task;
}

void ExpertsPass::sweep(Slot slot, std::vector<Task>& tasks) {
  for (const RowRange rows : chunks_) {
    throw_if_cancelled();
    const Chunk observed{observed_.mlp_in_again(rows), &observed_};
    const Chunk reference = reference_ ? Chunk{reference_->mlp_in_again(rows), reference_} : observed;
    const Routing routing = observed_.forward().route(observed.mlp_in);
    for (Task& task : tasks) {
      if (task.collector) observe(slot, task, rows, observed, reference, routing);
    }
  }
}

void ExpertsPass::observe(Slot slot, Task& task, RowRange rows, const Chunk& observed, const Chunk& reference,
                          const Routing& routing) {
  const at::TensorOptions longs = routing.experts.options();
  const at::Tensor tokens =
      task.all_rows ? at::arange(observed.mlp_in.size(0), longs) : routing.rows_of(task.expert).tokens;
  if (tokens.numel() == 0) return;
  const at::Tensor places = tokens.cpu();
  at::Tensor mask;
  if (counted_.defined()) {
    mask = counted_.narrow(0, rows.first, rows.count).flatten().index_select(0, places);
  }
  const int64_t first = rows.first * job_.ids.size(1);
  for (int64_t i = 0; i < places.numel(); ++i) {
    task.shown->push_back(first + places.const_data_ptr<int64_t>()[i]);
  }
  const at::Tensor x = values(slot, task.expert, observed, tokens, job_.propagate == Propagate::reference);
  if (solver_.needs(task.readers).cross_gram) {
    task.collector->observe_pair(x, values(slot, task.expert, reference, tokens, true), mask);
  } else {
    task.collector->observe(x, mask);
  }
}

/// Values of the slot for some tokens of a chunk. `divide`: the stream's weights are the unquantised model's,
/// so the folds into mlp_in have not reached them; its mlp_mid is the same with and without those folds.
at::Tensor ExpertsPass::values(Slot slot, int64_t expert, const Chunk& chunk, const at::Tensor& tokens,
                               bool divide) const {
  at::Tensor rows = chunk.mlp_in.index_select(0, tokens);
  if (slot == Slot::mlp_mid) return chunk.stream->forward().expert_mid(expert, rows);
  if (!divide) return rows;
  for (const at::Tensor& scales : divisors_) rows = rows / scales;
  return rows;
}

InputStats ExpertsPass::statistics(Slot slot, Task& task, const InputStats& all_tokens) const {
  if (task.collector) return task.collector->finish();
  if (slot == Slot::mlp_in && job_.experts.fallback == ExpertFallback::all_tokens) return all_tokens;
  return weight_only(solver_.needs(task.readers), block_.linears[task.readers.front()].in, job_.device,
                     fmt::format("{}, expert {} without activations", block_.prefix, task.expert));
}

std::string ExpertsPass::fallback_note(int64_t expert) const {
  return fmt::format(
      "expert {} got {} tokens, min_tokens is {}: {}", expert, tokens_[expert], job_.experts.min_tokens,
      job_.experts.fallback == ExpertFallback::all_tokens ? "statistics of all tokens passed through it"
                                                          : "weight-only statistics");
}

}  // namespace lathe
