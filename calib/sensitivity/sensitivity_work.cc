#include "calib/sensitivity/sensitivity_work.h"

#include "calib/driver/counted_tokens.h"
#include "calib/sensitivity/checked_groups.h"
#include "calib/sensitivity/trial_solver.h"

namespace lathe {
namespace {

/// Passes of the held-out text that the estimate takes beside one for each trial (loss_gradients.h).
constexpr double kGradientPasses = 3;

void add(const ForwardWork& work, double times, ForwardWork& sum) {
  sum += {times * work.products, times * work.attention, times * work.values};
}

void count_trials(const SensitivityJob& job, SensitivityWork& work) {
  for (const TrialGroup& group : job.groups) {
    const Block& block = part_of(job, group);
    std::map<Input, std::pair<std::vector<int64_t>, int64_t>> problems;  // rows, width
    for (const size_t i : group.linears) {
      auto& [rows, width] = problems[block.linears[i].input];
      rows.push_back(block.linears[i].out);
      width = block.linears[i].in;
    }
    for (const auto& [input, problem] : problems) {
      const auto& [rows, width] = problem;
      double weights = 0;
      for (const int64_t count : rows) weights += static_cast<double>(count) * static_cast<double>(width);
      for (const size_t t : group.trials) {
        work.trials[t] += job.trials[t].solver->work(rows, width, job.trials[t].scheme);
        work.errors += {.products = 2 * weights * static_cast<double>(width), .roundings = 2 * weights};
      }
    }
  }
}

void count_held_out(const SensitivityJob& job, SensitivityWork& work) {
  const ModelGraph& graph = *job.calibration.graph;
  const int64_t rows = job.held_out.size(0), length = job.held_out.size(1);
  // Streams that pass a block: the model's, and variants that left it there or before.
  double streams = 1;
  for (const TableGroup& table : job.tables)
    if (table.tensor == graph.embedding + ".weight") streams += static_cast<double>(table.roundings.size());
  const double passes = job.estimate ? kGradientPasses + static_cast<double>(job.trials.size()) : 0;
  for (size_t b = 0; b < graph.blocks.size(); ++b) {
    for (const TrialGroup& group : job.groups)
      if (job.measure_kl && group.block == b)
        streams += static_cast<double>(group.trials.size() * variants_of(job, group).size());
    add(block_work(graph.config, graph.blocks[b], rows, length), streams + passes, work.held_out);
  }
  for (const TrialGroup& group : job.groups) {  // each trial's head is dequantised for each row
    if (!is_head(job, group)) continue;
    const Linear& head = graph.lm_head();
    work.errors.roundings += static_cast<double>(rows) * static_cast<double>(group.trials.size()) *
                             static_cast<double>(head.out) * static_cast<double>(head.in);
  }
  const double all = static_cast<double>(variant_states(job)) * static_cast<double>(length);
  const auto vocabulary = static_cast<double>(graph.config.vocab_size);
  work.head += 2 * all * vocabulary * static_cast<double>(graph.config.hidden_size);
  work.probabilities += all * vocabulary;
}

}  // namespace

double SensitivityWork::flops() const {
  double sum = pass.flops() + errors.flops() + held_out.flops() + head;
  for (const Work& trial : trials) sum += trial.flops();
  return sum;
}

SensitivityWork sensitivity_work(const SensitivityJob& job) {
  const CalibrationJob& calibration = job.calibration;
  const int64_t samples = calibration.ids.size(0), length = calibration.ids.size(1);
  const TrialSolver all(*calibration.graph, job.trials, job.groups);
  SensitivityWork work;
  work.trials.resize(job.trials.size());
  work.pass = run_work(trial_job(job, all), samples, length, number_of_counted_tokens(calibration));
  work.pass.errors = {};  // counted for each trial
  count_trials(job, work);
  count_held_out(job, work);
  if (!job.checked.empty()) count_held_out(checking_job(job), work);
  return work;
}

}  // namespace lathe
