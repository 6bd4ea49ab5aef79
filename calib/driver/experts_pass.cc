#include "calib/driver/experts_pass.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "calib/driver/expert_fallback.h"
#include "calib/driver/fold.h"
#include "calib/driver/statistics_memory.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/base/process_memory.h"
#include "lib/numeric/hadamard.h"
#include "lib/tensor/copy_stream.h"

namespace lathe {

ExpertsPass::ExpertsPass(const CalibrationJob& job, const Block& block, InputSolver& solver,
                         const BlockStream& observed, const BlockStream* reference,
                         std::shared_ptr<const ExpertRoutes> routes, const at::Tensor& counted,
                         const std::vector<RowRange>& chunks)
    : job_(job),
      block_(block),
      solver_(solver),
      observed_(observed),
      reference_(reference),
      routes_(std::move(routes)),
      counted_(counted),
      chunks_(chunks) {}

void ExpertsPass::run(const InputStats& all_tokens, const std::vector<at::Tensor>& divisors,
                      const Progress& progress) {
  divisors_ = divisors;
  count_tokens();
  for (const Slot slot : {Slot::mlp_in, Slot::mlp_mid}) {
    for (const std::vector<int64_t>& experts : groups(slot)) {
      progress(fmt::format("{} of experts {} to {}", name_of(slot), experts.front(), experts.back()));
      calibrate(slot, experts, all_tokens);
      release_free_memory();  // what some experts left behind must not add up
    }
  }
  solver_.set_expert_tokens(tokens_);
}

void ExpertsPass::count_tokens() {
  tokens_.assign(static_cast<size_t>(block_.experts->count), 0);
  for (size_t chunk = 0; chunk < chunks_.size(); ++chunk) {
    at::Tensor counts;
    if (counted_.defined()) {
      counts = counted_.narrow(0, chunks_[chunk].first, chunks_[chunk].count).flatten().to(at::kLong);
    }
    for (int64_t expert = 0; expert < block_.experts->count; ++expert) {
      tokens_[static_cast<size_t>(expert)] +=
          counts.defined() ? counts.index_select(0, routes_->tokens(chunk, expert)).sum().item<int64_t>()
                           : routes_->count(chunk, expert);
    }
  }
}

/// What the statistics of one expert take while they are collected, and after.
uint64_t ExpertsPass::statistics_bytes(Slot slot, int64_t expert) const {
  const std::vector<size_t> readers = solver_.readers({slot, expert});
  const int64_t rows = below_floor(expert) ? job_.ids.numel() : routes_->count(expert);
  return collector_bytes(solver_.needs(readers), block_.linears[readers.front()].in, rows, job_.device);
}

/// Experts that have something to solve, in order, as many together as their statistics' size allows.
std::vector<std::vector<int64_t>> ExpertsPass::groups(Slot slot) const {
  std::vector<std::vector<int64_t>> result;
  uint64_t bytes = 0;
  for (int64_t expert = 0; expert < block_.experts->count; ++expert) {
    if (solver_.readers({slot, expert}).empty()) continue;
    const uint64_t more = statistics_bytes(slot, expert);
    if (result.empty() || bytes + more > job_.storage.expert_statistics) {
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
    if (task.collector) solver_.describe({slot, task.expert}, stats.back());
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
    unknown[k].second->recover(wanted, again[k].collector->finish(&solver_.checks()));
  }
}

ExpertsPass::Task ExpertsPass::task(const Input& input, const StatSet& wanted) const {
  Task task{.expert = *input.expert,
            .readers = solver_.readers(input),
            .wanted = wanted,
            .all_rows = false,
            .collector = std::nullopt};
  const bool below = below_floor(task.expert);
  if (blind(task)) return task;
  if (below && input.slot == Slot::mlp_in) return task;  // all tokens' statistics are there
  task.all_rows = below;
  const int64_t length = job_.ids.size(1);
  task.collector.emplace(
      wanted, block_.linears[task.readers.front()].in, job_.device,
      fmt::format("{}, {}", block_.prefix, name_of(input)),
      [length, all = task.all_rows, routes = routes_, expert = task.expert](int64_t shown) {
        const int64_t place = all ? shown : routes->token(expert, shown);
        return fmt::format("sample {}, token {}", place / length, place % length);
      });
  task.collector->limit_gram(solver_.gram_tokens(task.readers));
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
      task.all_rows ? at::arange(observed.mlp_in.size(0), at::kLong) : routes_->tokens(chunk, task.expert);
  if (places.numel() == 0) return;
  const auto sent = [&](const at::Tensor& of_tokens) {
    if (!of_tokens.defined()) return of_tokens;
    return of_tokens.narrow(0, rows.first, rows.count).flatten().index_select(0, places);
  };
  const at::Tensor mask = sent(counted_), weights = sent(job_.token_weights);
  const at::Tensor tokens = queued_copy(places, job_.device);
  const int64_t rotation = solver_.rotation(task.readers);
  const auto seen = [&](const Chunk& chunk, bool divide) {
    const at::Tensor made = values(slot, task.expert, chunk, tokens, divide);
    return rotation > 0 ? hadamard_blocks(made, rotation).to(made.scalar_type()) : made;
  };
  const at::Tensor x = seen(observed, job_.propagate == Propagate::reference);
  if (task.wanted.cross_gram) {
    task.collector->observe_pair(x, seen(reference, true), mask, weights);
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
  LATHE_ASSERT(
      (solver_.solvers_need(task.readers) & kWithoutActivations) == solver_.solvers_need(task.readers),
      "{}, expert {}: its solver needs activations", block_.prefix, task.expert);
  return weight_only_statistics(solver_.needs(task.readers), block_.linears[task.readers.front()].in,
                                job_.device);
}

std::string ExpertsPass::fallback_note(int64_t expert) const {
  return fmt::format(
      "expert {} got {} tokens, min_tokens is {}: {}", expert, tokens_[expert], job_.experts.min_tokens,
      job_.experts.fallback == ExpertFallback::all_tokens ? "statistics of all tokens passed through it"
                                                          : "weight-only statistics");
}

}  // namespace lathe
