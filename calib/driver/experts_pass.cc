#include "calib/driver/experts_pass.h"
#include "calib/driver/fold.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/tensor/copy_stream.h"

namespace lathe {
namespace {

/// Gram matrices while they are summed, and the chunk of rows that waits.
int64_t collector_bytes(const StatSet& wanted, int64_t width, c10::Device device) {
  const int64_t matrices = (wanted.gram ? 1 : 0) + (wanted.cross_gram ? 1 : 0);
  return matrices * width * width * gram_sum_bytes(device) + StatsCollector::kChunkTokens * width * 4;
}

/// What can be said without activations: all channels alike and independent, so that the Gram matrix is a
/// multiple of the identity, an output's error that of the weights, and every channel as important as any
/// other. Extrema and distributions would be invented: an algorithm that asks for them can't have this
/// fall-back.
constexpr StatSet kWithoutActivations{
    .gram = true, .mean_abs = true, .mean_square = true, .cross_gram = true};

InputStats weight_only(const StatSet& wanted, int64_t width, c10::Device device, const std::string& where) {
  InputStats stats;
  stats.tokens = width;  // each channel once
  const at::Tensor gram = at::eye(width, at::TensorOptions().dtype(at::kFloat).device(device)).div_(width);
  const at::Tensor channels = gram.diagonal().contiguous();
  if (wanted.gram) stats.gram = gram;
  if (wanted.cross_gram) stats.cross_gram = gram;
  if (wanted.mean_abs) stats.mean_abs = channels;
  if (wanted.mean_square) stats.mean_square = channels;
  if ((wanted & kWithoutActivations) != wanted) {
    user_error(
        "{}: too few tokens reach it, and the recipe's algorithms need activations' ranges or distributions, "
        "which weight-only statistics don't have; set calibration.experts.fallback to all_tokens",
        where);
  }
  return stats;
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
  ask_router();
  count_tokens();
  for (const Slot slot : {Slot::mlp_in, Slot::mlp_mid}) {
    for (const std::vector<int64_t>& experts : groups(slot)) {
      progress(fmt::format("{} of experts {} to {}", name_of(slot), experts.front(), experts.back()));
      calibrate(slot, experts, all_tokens);
    }
  }
  solver_.set_expert_tokens(tokens_);
}

at::Tensor ExpertsPass::Route::of(int64_t expert) const {
  const int64_t first = begin.at(static_cast<size_t>(expert)),
                end = begin.at(static_cast<size_t>(expert) + 1);
  return tokens.narrow(0, first, end - first).to(at::kLong);
}

/// No fold or solve of an expert changes what the router reads, so one answer does for all sweeps; the device
/// is waited for when it is queued for all chunks.
void ExpertsPass::ask_router() {
  std::vector<Routing::Order> queued;
  for (const RowRange rows : chunks_) {
    throw_if_cancelled();
    const Routing routing = observed_.forward().route(observed_.mlp_in_again(rows));
    const Routing::Order order = routing.order(block_.experts->count);
    queued.push_back({order.places.div(routing.experts.size(1), "floor").to(at::kInt), order.begins});
  }
  for (const Routing::Order& order : queued) {
    const at::Tensor begins = order.begins.cpu();
    const int64_t* const first = begins.const_data_ptr<int64_t>();
    routes_.push_back({order.places.cpu(), {first, first + begins.numel()}});
  }
}

void ExpertsPass::count_tokens() {
  tokens_.assign(static_cast<size_t>(block_.experts->count), 0);
  for (size_t chunk = 0; chunk < chunks_.size(); ++chunk) {
    at::Tensor counts;
    if (counted_.defined()) {
      counts = counted_.narrow(0, chunks_[chunk].first, chunks_[chunk].count).flatten().to(at::kLong);
    }
    for (int64_t expert = 0; expert < block_.experts->count; ++expert) {
      const at::Tensor tokens = routes_[chunk].of(expert);
      tokens_[static_cast<size_t>(expert)] +=
          counts.defined() ? counts.index_select(0, tokens).sum().item<int64_t>() : tokens.numel();
    }
  }
}

/// Experts that have something to solve, in order, as many together as their statistics' size allows.
std::vector<std::vector<int64_t>> ExpertsPass::groups(Slot slot) const {
  std::vector<std::vector<int64_t>> result;
  int64_t bytes = 0;
  for (int64_t expert = 0; expert < block_.experts->count; ++expert) {
    const std::vector<size_t> readers = solver_.readers({slot, expert});
    if (readers.empty()) continue;
    const int64_t more =
        collector_bytes(solver_.needs(readers), block_.linears[readers.front()].in, job_.device);
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
  for (const int64_t expert : experts) {
    tasks.push_back(task({slot, expert}, solver_.needs(solver_.readers({slot, expert}))));
  }
  if (std::ranges::any_of(tasks, [](const Task& t) { return t.collector.has_value(); })) sweep(slot, tasks);
  // All experts' statistics before the first is solved: on a GPU they are queued together.
  std::vector<InputStats> stats;
  for (Task& task : tasks) {
    stats.push_back(statistics(slot, task, all_tokens));
    task.collector.reset();  // its sums are larger than the statistics
  }
  std::vector<std::pair<const Task*, InputStats*>> unknown;
  for (size_t k = 0; k < tasks.size(); ++k) {
    fold(slot, tasks[k], stats[k]);
    if (solver_.lost(tasks[k].readers, stats[k]) != StatSet{}) unknown.emplace_back(&tasks[k], &stats[k]);
  }
  if (!unknown.empty()) observe_lost(slot, unknown);
  for (size_t k = 0; k < tasks.size(); ++k) {
    const int64_t expert = tasks[k].expert;
    solver_.solve(tasks[k].readers, stats[k], below_floor(expert) ? fallback_note(expert) : "");
    stats[k] = {};
  }
}

/// An expert's fold changes its own weights only. mlp_mid is made again, from the folded ones.
void ExpertsPass::fold(Slot slot, const Task& task, InputStats& stats) {
  const Input input{slot, task.expert};
  if (blind(task)) {
    return solver_.leave_edges(input, "too few tokens for a scale: " + fallback_note(task.expert));
  }
  solver_.fold(
      input, stats, [](const at::Tensor&) {},
      [&](InputStats& lost) {
        observe_lost(slot, {{&task, &lost}});
      });
}

void ExpertsPass::observe_lost(Slot slot, const std::vector<std::pair<const Task*, InputStats*>>& unknown) {
  std::vector<Task> again;
  for (const auto& [task, stats] : unknown) again.push_back(this->task({slot, task->expert}, stats->lost));
  sweep(slot, again);
  for (size_t k = 0; k < again.size(); ++k) {
    const StatSet wanted = unknown[k].second->lost;
    unknown[k].second->recover(wanted, again[k].collector->finish());
  }
}

ExpertsPass::Task ExpertsPass::task(const Input& input, const StatSet& wanted) const {
  Task task{.expert = *input.expert,
            .readers = solver_.readers(input),
            .wanted = wanted,
            .all_rows = false,
            .collector = std::nullopt,
            .shown = nullptr};
  const bool below = below_floor(task.expert);
  if (blind(task)) return task;
  if (below && input.slot == Slot::mlp_in) return task;  // all tokens' statistics are there
  task.all_rows = below;
  task.shown = std::make_shared<std::vector<int64_t>>();
  const int64_t length = job_.ids.size(1);
  task.collector.emplace(wanted, block_.linears[task.readers.front()].in, job_.device,
                         fmt::format("{}, {}", block_.prefix, name_of(input)),
                         [length, shown = task.shown](int64_t token) {
                           const int64_t place = shown->at(token);
                           return fmt::format("sample {}, token {}", place / length, place % length);
                         });
  return task;
}

void ExpertsPass::sweep(Slot slot, std::vector<Task>& tasks) {
  for (size_t chunk = 0; chunk < chunks_.size(); ++chunk) {
    throw_if_cancelled();
    const Chunk observed{observed_.mlp_in_again(chunks_[chunk]), &observed_};
    const Chunk reference =
        reference_ ? Chunk{reference_->mlp_in_again(chunks_[chunk]), reference_} : observed;
    for (Task& task : tasks) {
      if (task.collector) observe(slot, task, chunk, observed, reference);
    }
  }
}

void ExpertsPass::observe(Slot slot, Task& task, size_t chunk, const Chunk& observed,
                          const Chunk& reference) {
  const RowRange rows = chunks_[chunk];
  const at::Tensor places =
      task.all_rows ? at::arange(observed.mlp_in.size(0), at::kLong) : routes_[chunk].of(task.expert);
  if (places.numel() == 0) return;
  const auto sent = [&](const at::Tensor& of_tokens) {
    if (!of_tokens.defined()) return of_tokens;
    return of_tokens.narrow(0, rows.first, rows.count).flatten().index_select(0, places);
  };
  const at::Tensor mask = sent(counted_), weights = sent(job_.token_weights);
  const int64_t first = rows.first * job_.ids.size(1);
  for (int64_t i = 0; i < places.numel(); ++i) {
    task.shown->push_back(first + places.const_data_ptr<int64_t>()[i]);
  }
  const at::Tensor tokens = queued_copy(places, job_.device);
  const at::Tensor x = values(slot, task.expert, observed, tokens, job_.propagate == Propagate::reference);
  if (task.wanted.cross_gram) {
    task.collector->observe_pair(x, values(slot, task.expert, reference, tokens, true), mask, weights);
  } else {
    task.collector->observe(x, mask, weights);
  }
}

/// Values of the slot for some tokens of a chunk. `divide`: the stream's weights are the unquantised model's,
/// so the folds into mlp_in have not reached them; its mlp_mid is the same with and without those folds.
at::Tensor ExpertsPass::values(Slot slot, int64_t expert, const Chunk& chunk, const at::Tensor& tokens,
                               bool divide) const {
  const at::Tensor rows = chunk.mlp_in.index_select(0, tokens);
  if (slot == Slot::mlp_mid) return chunk.stream->forward().expert_mid(expert, rows);
  return divide ? after_folds(rows, divisors_) : rows;
}

InputStats ExpertsPass::statistics(Slot slot, Task& task, const InputStats& all_tokens) const {
  if (task.collector) return task.collector->finish(&solver_.checks());
  if (slot == Slot::mlp_in && job_.experts.fallback == ExpertFallback::all_tokens) return all_tokens;
  return weight_only(solver_.needs(task.readers), block_.linears[task.readers.front()].in, job_.device,
                     fmt::format("{}, expert {}", block_.prefix, task.expert));
}

std::string ExpertsPass::fallback_note(int64_t expert) const {
  return fmt::format(
      "expert {} got {} tokens, min_tokens is {}: {}", expert, tokens_[expert], job_.experts.min_tokens,
      job_.experts.fallback == ExpertFallback::all_tokens ? "statistics of all tokens passed through it"
                                                          : "weight-only statistics");
}

}  // namespace lathe
