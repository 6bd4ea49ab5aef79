#include "calib/driver/input_solver.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <limits>
#include <optional>
#include <utility>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/kernels/dequantize.h"
#include "lib/numeric/distortion.h"
#include "lib/numeric/hadamard.h"
#include "lib/tensor/aten.h"

namespace lathe {

InputSolver::InputSolver(const CalibrationJob& job, size_t block_index, BlockWeights& weights)
    : job_(job), block_(job.graph->part(block_index)), tasks_(job.tasks[block_index]), weights_(weights) {
  outcome_.index = block_index;
  state_.block = &block_;
  state_.weights = &weights_;
  state_.float_dtype = job.graph->config.dtype;
  for (size_t i = 0; i < tasks_.size(); ++i) {
    if (tasks_[i].solver != nullptr) state_.to_solve.insert(block_.linears[i].name);
  }
}

std::vector<size_t> InputSolver::readers(const Input& input) const {
  std::vector<size_t> indices;
  for (size_t i = 0; i < tasks_.size(); ++i) {
    if (tasks_[i].solver != nullptr && block_.linears[i].input == input) indices.push_back(i);
  }
  return indices;
}

std::vector<size_t> InputSolver::followers(const Input& input) const {
  std::vector<size_t> indices;
  for (size_t i = 0; i < tasks_.size(); ++i) {
    const Input& read = block_.linears[i].input;
    const bool after_norm = input == Input{Slot::mlp_in, std::nullopt} && read.slot == Slot::mlp_in;
    const bool follows = read == input || after_norm;
    if (tasks_[i].solver != nullptr && follows) indices.push_back(i);
  }
  return indices;
}

StatSet InputSolver::needs(const std::vector<size_t>& readers) const {
  return with_report(job_, solvers_need(readers)).wanted;
}

int64_t InputSolver::gram_tokens(const std::vector<size_t>& readers) const {
  const bool whole = with_report(job_, solvers_need(readers)).whole_gram;
  return whole ? std::numeric_limits<int64_t>::max() : kReportTokens;
}

void InputSolver::describe(const Input& input, const InputStats& stats) {
  if (job_.describe_inputs) outcome_.inputs.push_back({input, describe_input(stats)});
}

StatSet InputSolver::solvers_need(const std::vector<size_t>& readers) const {
  StatSet set;
  for (const size_t i : readers) {
    set = set | tasks_[i].solver->needs();
    if (tasks_[i].activations) set = set | tasks_[i].activations->needs();
  }
  return set;
}

int64_t InputSolver::rotation(const std::vector<size_t>& readers) const {
  const int64_t block = readers.empty() ? 0 : tasks_[readers.front()].scheme.hadamard;
  for (const size_t i : readers) {
    LATHE_ASSERT(tasks_[i].scheme.hadamard == block, "{}: rotated in blocks of {}, others of its input of {}",
                 block_.linears[i].name, tasks_[i].scheme.hadamard, block);
  }
  return block;
}

LinearProblem InputSolver::problem(size_t i) const {
  const Linear& linear = block_.linears[i];
  const int64_t rotation = tasks_[i].scheme.hadamard;
  const at::Tensor weight = weights_.weight(linear);
  LinearProblem problem{
      linear.name,      linear.role,      rotation > 0 ? hadamard_blocks(weight, rotation) : weight,
      tasks_[i].scheme, job_.scale_dtype, std::nullopt};
  if (tasks_[i].activations) problem.activations = tasks_[i].activations->scheme;
  problem.transformed = !job_.transforms.empty();
  return problem;
}

SharedInputProblem InputSolver::problem(const std::vector<size_t>& readers, const InputStats& stats) const {
  SharedInputProblem shared{.linears = {}, .stats = &stats};
  for (const size_t i : readers) shared.linears.push_back(problem(i));
  return shared;
}

void InputSolver::fold(const Input& input, InputStats& stats,
                       const std::function<void(const at::Tensor&)>& folded,
                       const std::function<void(InputStats&)>& observe_again) {
  const std::vector<size_t> consumers = followers(input);
  for (size_t t = 0; t < job_.transforms.size(); ++t) {
    if ((stats.lost & job_.transforms[t]->needs()) != StatSet{}) observe_again(stats);
    for (const ScaleEdge& edge : block_.edges) {
      if (edge.input != input) continue;
      if (!edge.closed.empty()) {
        outcome_.folds.push_back({.edge = &edge, .transform = t, .note = edge.closed});
        continue;
      }
      const auto producer = state_.solved.find(edge.producer);
      if (producer != state_.solved.end() && !producer->second.can_scale_rows()) {
        outcome_.folds.push_back(
            {.edge = &edge,
             .transform = t,
             .note = fmt::format("{} is solved, and its rows share scales: they can't be scaled one by one",
                                 edge.producer)});
        continue;
      }
      const FoldDecision decision = job_.transforms[t]->fold(edge, problem(consumers, stats));
      outcome_.folds.push_back({.edge = &edge,
                                .transform = t,
                                .applied = decision.scales.defined(),
                                .ratio = decision.ratio,
                                .loss_before = decision.loss_before,
                                .loss_after = decision.loss_after,
                                .note = decision.note});
      if (!decision.scales.defined()) continue;
      const at::Tensor effective = apply_fold(state_, edge, decision.scales);
      stats = std::move(stats).with_inputs_divided(effective);
      folded(effective);
    }
  }
}

void InputSolver::leave_edges(const Input& input, const std::string& note) {
  for (size_t t = 0; t < job_.transforms.size(); ++t) {
    for (const ScaleEdge& edge : block_.edges) {
      if (edge.input == input) outcome_.folds.push_back({.edge = &edge, .transform = t, .note = note});
    }
  }
}

void InputSolver::solve(const std::vector<size_t>& readers, const InputStats& stats,
                        const std::string& event) {
  solve_each(readers, stats, event, std::nullopt);
}

void InputSolver::solve_sparingly(const std::vector<size_t>& readers, InputStats& stats) {
  std::optional<LentGram> lent;
  if (sole_owner(stats.gram)) lent = LentGram{&stats.gram, job_.storage.hidden.work};
  solve_each(readers, stats, "", lent);
}

void InputSolver::solve_each(const std::vector<size_t>& readers, const InputStats& stats,
                             const std::string& event, const std::optional<LentGram>& lent) {
  const Stopwatch watch;
  if (stats.sample.defined())
    spreads_.emplace_back(block_.linears[readers.front()].input, count_inputs(stats.sample));
  const size_t first_outcome = outcome_.linears.size();
  std::vector<bool> done(tasks_.size(), false);
  for (const size_t first : readers) {
    if (done[first]) continue;
    std::vector<size_t> together;  // one solver: one stacked problem
    for (const size_t i : readers) {
      if (tasks_[i].solver != tasks_[first].solver) continue;
      together.push_back(i);
      done[i] = true;
    }
    solve_together(together, stats, lent);
  }
  const double share = watch.seconds() / static_cast<double>(readers.size());
  for (size_t k = first_outcome; k < outcome_.linears.size(); ++k) {
    outcome_.linears[k].seconds = share;
    if (!event.empty()) outcome_.linears[k].events.push_back(event);
  }
}

void InputSolver::solve_together(const std::vector<size_t>& linears, const InputStats& stats,
                                 const std::optional<LentGram>& lent) {
  LATHE_ASSERT(lost(linears, stats) == StatSet{},
               "{}: a fold left statistics unknown that its solver needs, and nobody collected them again",
               block_.linears[linears.front()].name);
  SharedInputProblem shared = problem(linears, stats);
  const Solver& solver = *tasks_[linears.front()].solver;
  for (LinearProblem& linear : shared.linears) {
    if (solver.range_offers() == RangeOffers::unused) break;
    for (const Transform* transform : job_.transforms) {
      if (auto range = transform->range(linear, stats)) linear.range = std::move(range);
    }
  }
  shared.lent = lent;
  // Before the solver is queued, so that the host waits for statistics alone.
  std::vector<std::optional<InputQuantizer>> inputs;
  for (const size_t i : linears) {
    const auto& activations = tasks_[i].activations;
    std::optional<InputQuantizer>& input = inputs.emplace_back();
    if (!activations) continue;
    input = quantizer_for(*activations, stats, job_.scale_dtype, block_.linears[i].name);
    input->hadamard = tasks_[i].scheme.hadamard;
  }
  std::vector<SolveResult> results = solver.solve(shared);
  LATHE_ASSERT(results.size() == linears.size(), "solver gave {} results for {} linears", results.size(),
               linears.size());
  for (size_t k = 0; k < linears.size(); ++k) {
    results[k].quantized.input = std::move(inputs[k]);
    keep(block_.linears[linears[k]], shared.linears[k], std::move(results[k]), stats);
  }
}

void InputSolver::keep(const Linear& linear, LinearProblem& solved, SolveResult result,
                       const InputStats& stats) {
  outcome_.linears.push_back({.linear = &linear,
                              .quantized = {},
                              .distortion = {},
                              .output_tokens = stats.gram_tokens,
                              .tokens = stats.tokens,
                              .clipped = solved.range.has_value(),
                              .seconds = 0,
                              .events = std::move(result.events)});
  // What nobody has rounded yet puts out what it did.
  const bool measured = !(result.quantized.scheme.floating() && job_.round_for_formats);
  distortions_.push_back(distortion_sums(solved.weight, kernels::dequantized_rows(result.quantized),
                                         measured ? stats.gram : at::Tensor()));
  histograms_.push_back(count_weights(solved.weight, result.quantized));
  if (job_.hand_over_weights) hand_over(linear, solved.weight, stats);
  solved.weight.reset();  // the old weight goes before the new one comes
  weights_.drop_weight(linear);
  // What the head puts out is no linear's input.
  if (linear.role != LinearRole::lm_head)
    weights_.set_weight(linear, kernels::dequantized_weight(result.quantized));
  // What follows is calibrated on what the quantised linear puts out, its input's rounding included.
  if (result.quantized.input) weights_.set_input_quantizer(linear, *result.quantized.input);
  state_.solved[linear.name] = std::move(result.quantized);
}

void InputSolver::hand_over(const Linear& linear, const at::Tensor& weight, const InputStats& stats) {
  const at::Tensor square = stats.mean_square.defined() ? stats.mean_square : stats.gram.diagonal();
  GivenWeight given{{}, square.contiguous(), stats.tokens};
  if (job_.round_for_formats) {
    given.weight = weight.cpu();
    given.mean_square = given.mean_square.cpu();
    for (const FormatRounding& made : job_.round_for_formats(linear, given)) {
      if (!stats.gram.defined()) continue;
      const auto rows = [&](int64_t begin, int64_t end) { return made.rows(begin, end).to(weight.device()); };
      format_losses_.push_back(
          {outcome_.linears.size() - 1, made.format, distortion_sums(weight, rows, stats.gram)});
    }
  }
  // Folds that come change this one; formats know what they rounded by its storage.
  state_.given[linear.name] = given.weight.defined() ? std::exchange(given.weight, {}) : weight;
  outcome_.linears.back().given = std::move(given);
}

BlockOutcome InputSolver::take_outcome() {
  checks_.read();
  for (size_t k = 0; k < distortions_.size(); ++k) {
    outcome_.linears[k].distortion = distortions_[k].read();
    outcome_.linears[k].histogram = histograms_[k].read();
  }
  for (const auto& [place, format, sums] : format_losses_)
    outcome_.linears[place].format_losses.push_back({format, sums.read().output_relative_error.value()});
  format_losses_.clear();
  for (const auto& [input, counts] : spreads_) outcome_.spreads.push_back({input, counts.read()});
  spreads_.clear();
  distortions_.clear();
  histograms_.clear();
  for (LinearOutcome& linear : outcome_.linears) {
    const QuantizedTensor solved = std::move(state_.solved.at(linear.linear->name));
    linear.quantized = solved.cpu();
    if (!linear.given) continue;
    linear.given->weight = state_.given.at(linear.linear->name).cpu();
    linear.given->mean_square = linear.given->mean_square.cpu();
  }
  for (auto& [name, values] : state_.changed) outcome_.changed[name] = values.cpu();
  return std::move(outcome_);
}

}  // namespace lathe
