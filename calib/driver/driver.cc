#include "calib/driver/driver.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <memory>

#include "calib/driver/fold.h"
#include "lib/base/cancel.h"
#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/model/forward.h"
#include "lib/numeric/distortion.h"

namespace lathe {
namespace {

/// Tokens in one micro-batch: enough for GEMMs to run at their rate, few enough for the intermediates to stay
/// in cache-sized megabytes rather than gigabytes.
constexpr int64_t kMicroBatchTokens = 2048;

/// What every linear's report needs (output error), whatever the algorithms ask for.
constexpr StatSet kReportNeeds{.gram = true, .mean_abs = false};

/// Works on one block: statistics, folds and solves, slot by slot, moving the hidden states along.
class BlockPass {
 public:
  BlockPass(const CalibrationJob& job, size_t index, std::vector<at::Tensor>& hidden, const RopeTables& rope)
      : job_(job),
        block_(job.graph->blocks[index]),
        tasks_(job.tasks[index]),
        hidden_(hidden),
        weights_(block_, *job.weights, job.device),
        forward_(job.graph->config, block_, weights_, rope) {
    outcome_.index = index;
    state_.block = &block_;
    state_.weights = &weights_;
    state_.float_dtype = job.graph->config.dtype;
    for (size_t i = 0; i < tasks_.size(); ++i) {
      if (tasks_[i].solver != nullptr) state_.to_solve.insert(block_.linears[i].name);
    }
  }

  BlockOutcome run(const std::function<void(std::string_view)>& progress) {
    std::vector<at::Tensor> inner(hidden_.size());
    progress("attention input");
    process(
        Slot::attention_in, [&](size_t i) { return forward_.attention_in(hidden_[i]); }, nullptr);
    progress("attention");
    process(
        Slot::attention_out,
        [&](size_t i) { return inner[i] = forward_.attention_out(forward_.attention_in(hidden_[i])); },
        &inner);
    advance([&](size_t i) { return forward_.add_attention(hidden_[i], inner[i]); }, inner);
    progress("mlp input");
    process(
        Slot::mlp_in, [&](size_t i) { return forward_.mlp_in(hidden_[i]); }, nullptr);
    progress("mlp");
    process(
        Slot::mlp_mid, [&](size_t i) { return inner[i] = forward_.mlp_mid(forward_.mlp_in(hidden_[i])); },
        &inner);
    advance([&](size_t i) { return forward_.add_mlp(hidden_[i], inner[i]); }, inner);
    finish_outcome();
    return std::move(outcome_);
  }

 private:
  using Produce = std::function<at::Tensor(size_t)>;

  /// One slot: observe its values, fold into its producer, solve the linears that read it. `stored`: where
  /// the slot's values were kept (they follow a fold); null where they are made again from the folded
  /// producer.
  void process(Slot slot, const Produce& produce, std::vector<at::Tensor>* stored) {
    const std::vector<size_t> readers = linears_to_solve(slot);
    std::unique_ptr<StatsCollector> collector;
    if (!readers.empty()) {
      collector =
          std::make_unique<StatsCollector>(needs(readers), block_.linears[readers.front()].in, job_.device,
                                           fmt::format("{}, {}", block_.prefix, name_of(slot)));
    }
    // Without a reader to solve, values that are kept for the next stage must still be made.
    for (size_t i = 0; i < hidden_.size() && (collector || stored != nullptr); ++i) {
      throw_if_cancelled();
      const at::Tensor values = produce(i);
      if (collector) collector->observe(values);
    }
    if (!collector) return;
    InputStats stats = collector->finish();
    const Stopwatch watch;
    fold_edges(slot, readers, stats, stored);
    solve(readers, stats);
    const double share = watch.seconds() / static_cast<double>(readers.size());
    for (size_t k = outcome_.linears.size() - readers.size(); k < outcome_.linears.size(); ++k) {
      outcome_.linears[k].seconds = share;
    }
  }

  std::vector<size_t> linears_to_solve(Slot slot) const {
    std::vector<size_t> indices;
    for (size_t i = 0; i < tasks_.size(); ++i) {
      if (tasks_[i].solver != nullptr && block_.linears[i].input == Input{slot, std::nullopt})
        indices.push_back(i);
    }
    return indices;
  }

  StatSet needs(const std::vector<size_t>& readers) const {
    StatSet set = kReportNeeds;
    for (const Transform* transform : job_.transforms) set = set | transform->needs();
    for (const size_t i : readers) set = set | tasks_[i].solver->needs();
    return set;
  }

  LinearProblem problem(size_t i) const {
    const Linear& linear = block_.linears[i];
    return {linear.name,      linear.role,      weights_.weight(linear),
            tasks_[i].scheme, job_.scale_dtype, std::nullopt};
  }

  SharedInputProblem problem(const std::vector<size_t>& readers, const InputStats& stats) const {
    SharedInputProblem shared{.linears = {}, .stats = &stats};
    for (const size_t i : readers) shared.linears.push_back(problem(i));
    return shared;
  }

  void fold_edges(Slot slot, const std::vector<size_t>& readers, InputStats& stats,
                  std::vector<at::Tensor>* stored) {
    for (size_t t = 0; t < job_.transforms.size(); ++t) {
      for (const ScaleEdge& edge : block_.edges) {
        if (edge.input != Input{slot, std::nullopt}) continue;
        const FoldDecision decision = job_.transforms[t]->fold(edge, problem(readers, stats));
        outcome_.folds.push_back({.edge = &edge,
                                  .transform = t,
                                  .applied = decision.scales.defined(),
                                  .ratio = decision.ratio,
                                  .loss_before = decision.loss_before,
                                  .loss_after = decision.loss_after,
                                  .note = decision.note});
        if (!decision.scales.defined()) continue;
        const at::Tensor effective = apply_fold(state_, edge, decision.scales);
        stats = stats.with_inputs_divided(effective);
        if (stored == nullptr) continue;
        for (at::Tensor& values : *stored) values.div_(effective);
      }
    }
  }

  void solve(const std::vector<size_t>& readers, const InputStats& stats) {
    std::vector<bool> done(tasks_.size(), false);
    for (const size_t first : readers) {
      if (done[first]) continue;
      std::vector<size_t> together;  // one solver: one stacked problem
      for (const size_t i : readers) {
        if (tasks_[i].solver == tasks_[first].solver) together.push_back(i);
      }
      SharedInputProblem shared = problem(together, stats);
      for (LinearProblem& linear : shared.linears) {
        for (const Transform* transform : job_.transforms) {
          if (auto range = transform->range(linear, stats)) linear.range = std::move(range);
        }
      }
      std::vector<SolveResult> results = tasks_[first].solver->solve(shared);
      LATHE_ASSERT(results.size() == together.size(), "solver gave {} results for {} linears", results.size(),
                   together.size());
      for (size_t k = 0; k < together.size(); ++k) {
        keep(block_.linears[together[k]], shared.linears[k], std::move(results[k]), stats);
        done[together[k]] = true;
      }
    }
  }

  void keep(const Linear& linear, const LinearProblem& solved, SolveResult result, const InputStats& stats) {
    const at::Tensor values = result.quantized.dequantize();
    outcome_.linears.push_back({.linear = &linear,
                                .quantized = {},
                                .distortion = measure_distortion(solved.weight, values, stats.gram),
                                .clipped = solved.range.has_value(),
                                .seconds = 0,
                                .events = std::move(result.events)});
    weights_.set_weight(linear, values);
    state_.solved[linear.name] = std::move(result.quantized);
  }

  /// Moves every micro-batch one residual step on and drops the stored values.
  void advance(const Produce& step, std::vector<at::Tensor>& inner) {
    for (size_t i = 0; i < hidden_.size(); ++i) {
      throw_if_cancelled();
      hidden_[i] = step(i);
      inner[i].reset();
    }
  }

  void finish_outcome() {
    for (LinearOutcome& linear : outcome_.linears) {
      QuantizedTensor& tensor = state_.solved.at(linear.linear->name);
      tensor.codes = tensor.codes.cpu();
      tensor.scales = tensor.scales.cpu();
      if (tensor.zero_points.defined()) tensor.zero_points = tensor.zero_points.cpu();
      linear.quantized = std::move(tensor);
    }
    for (auto& [name, values] : state_.changed) outcome_.changed[name] = values.cpu();
  }

  const CalibrationJob& job_;
  const Block& block_;
  const std::vector<LinearTask>& tasks_;
  std::vector<at::Tensor>& hidden_;
  BlockWeights weights_;
  BlockForward forward_;
  BlockState state_;
  BlockOutcome outcome_;
};

/// Embeds all samples, cut into micro-batches [rows, seq, hidden] on the device.
std::vector<at::Tensor> embed_samples(const CalibrationJob& job) {
  const at::Tensor embedding = job.weights->load(job.graph->embedding + ".weight").to(job.device);
  const int64_t rows = std::max<int64_t>(1, kMicroBatchTokens / job.ids.size(1));
  std::vector<at::Tensor> hidden;
  for (const at::Tensor& ids : job.ids.split(rows)) {
    hidden.push_back(embed(*job.graph, embedding, ids.to(job.device)));
  }
  return hidden;
}

}  // namespace

void calibrate(const CalibrationJob& job, const DriverEvents& events) {
  const c10::NoGradGuard no_grad;
  LATHE_ASSERT(job.tasks.size() == job.graph->blocks.size(), "one task list for each block");
  if (job.graph->config.experts) user_error("calibrating a mixture of experts is not supported yet");
  std::vector<at::Tensor> hidden = embed_samples(job);
  const RopeTables rope = rope_tables(job.graph->config, job.ids.size(1), job.device);
  for (size_t b = 0; b < job.graph->blocks.size(); ++b) {
    BlockPass pass(job, b, hidden, rope);
    events.block_done(pass.run([&](std::string_view stage) {
      if (events.progress) events.progress(static_cast<int64_t>(b), fmt::format("block {}: {}", b, stage));
    }));
  }
  if (events.progress) events.progress(static_cast<int64_t>(job.graph->blocks.size()), "done");
}

}  // namespace lathe
