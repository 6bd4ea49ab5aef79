#include "calib/driver/run_work.h"

#include <algorithm>
#include <cmath>

#include "calib/driver/cache_gradients.h"
#include "calib/driver/kv_cache_fit.h"
#include "calib/driver/observed_inputs.h"
#include "calib/stats/stats_collector.h"
#include "lib/base/checked.h"

namespace lathe {
namespace {

/// Of the loss through a block: once there, and back what two passes cost (calib/driver/loss_passes.h).
constexpr int kGradientPasses = 3;
/// Logits are made twice (lib/eval/drawn_labels.h), and taken back.
constexpr double kHeadProducts = 3;

/// Of one block.
class BlockCount {
 public:
  BlockCount(const CalibrationJob& job, size_t index, RunWork& work)
      : job_(job), index_(index), block_(job.graph->part(index)), work_(work) {}

  void count_forward(int64_t samples, int64_t length) {
    const ModelConfig& config = job_.graph->config;
    const double tokens = static_cast<double>(samples) * static_cast<double>(length);
    if (&block_ == &job_.graph->head) {  // its norm alone
      work_.forward.values +=
          (carries_two_streams(job_) ? 2 : 1) * tokens * static_cast<double>(config.hidden_size);
      return;
    }
    ForwardWork once = block_work(config, block_, samples, length);
    // Norms run once more for each slot that is observed in one sweep and used in the next.
    once.values += 2 * tokens * static_cast<double>(config.hidden_size);
    if (!job_.storage.inner) {
      once.products += slot_products(block_, Slot::attention_in, tokens);
      once.attention += attention_work(config, block_, samples, length);
      if (!block_.experts) once.products += slot_products(block_, Slot::mlp_in, tokens);
    }
    ForwardWork all = once;
    if (carries_two_streams(job_)) all += once;
    if (job_.kv_cache) count_cache(samples, length, all);
    if (block_.experts && solves_expert_mids()) all.products += expert_mids(tokens);
    work_.forward += all;
  }

  void count_statistics(int64_t tokens) {
    const auto all = static_cast<double>(tokens);
    for (const auto& [slot, seen] : observed_inputs(job_, index_)) {
      if (seen.common) observe(*seen.common, all);
      for (const ObservedInput& input : seen.experts)
        observe(input, all * static_cast<double>(block_.experts->per_token) /
                           static_cast<double>(block_.experts->count));
    }
    work_.observed += all * static_cast<double>(job_.graph->config.hidden_size);  // what leaves the block
  }

  void count_folds() {
    for (size_t t = 0; t < job_.transforms.size(); ++t) {
      const Transform& transform = *job_.transforms[t];
      for (const ScaleEdge& edge : block_.edges) {
        int64_t rows = 0, width = 0;
        for (size_t i = 0; i < block_.linears.size(); ++i) {
          if (!edge.closed.empty() || solver(i) == nullptr || !consumes(block_.linears[i], edge)) continue;
          rows += block_.linears[i].out;
          width = block_.linears[i].in;
        }
        if (rows > 0) work_.transforms[t] += transform.fold_work(edge, rows, width);
      }
      for (size_t i = 0; i < block_.linears.size(); ++i) {
        const Linear& linear = block_.linears[i];
        if (solver(i) == nullptr || solver(i)->range_offers() == RangeOffers::unused) continue;
        work_.transforms[t] +=
            transform.range_work(linear.role, job_.tasks[index_][i].scheme, linear.out, linear.in);
      }
    }
  }

  void count_solves() {
    struct Together {
      std::vector<int64_t> rows;
      size_t first = 0;
    };
    std::map<std::pair<Input, const Solver*>, Together> problems;
    for (size_t i = 0; i < block_.linears.size(); ++i) {
      if (solver(i) == nullptr) continue;
      const auto [found, is_new] = problems.try_emplace({block_.linears[i].input, solver(i)});
      if (is_new) found->second.first = i;
      found->second.rows.push_back(block_.linears[i].out);
    }
    for (const auto& [key, together] : problems) {
      const int64_t width = block_.linears[together.first].in;
      work_.solvers[key.second] +=
          key.second->work(together.rows, width, job_.tasks[index_][together.first].scheme);
      // tr(dW H dW^T) and tr(W H W^T); values are made for the error, and for what follows.
      const double weights = weights_of(together.rows, width);
      work_.errors += {.products = 2 * weights * static_cast<double>(width), .roundings = 2 * weights};
    }
  }

 private:
  const Solver* solver(size_t linear) const { return job_.tasks[index_][linear].solver; }

  bool consumes(const Linear& linear, const ScaleEdge& edge) const {
    return std::ranges::any_of(block_.consumers(edge), [&](const Linear* one) { return one == &linear; });
  }

  /// Keys and values are made once more, of fewer than 8 bits for as many tokens as fitting takes, and with
  /// their queries.
  void count_cache(int64_t samples, int64_t length, ForwardWork& forward) {
    const ModelConfig& config = job_.graph->config;
    if (!job_.kv_cache->low_bit()) {
      forward.products += keys_and_values(static_cast<double>(samples * length), false);
      return;
    }
    if (!job_.kv_cache->calibrated()) return;
    work_.cache_tokens = std::min(kCacheTokens, samples * length);
    const auto tokens = static_cast<double>(work_.cache_tokens);
    forward.products += keys_and_values(tokens, true);
    if (!wants_cache_gradients(job_)) {
      work_.cache += tokens * cache_sensitivity_flops(config.num_heads, config.head_dim, length);
      return;
    }
    const int64_t own = std::max<int64_t>(1, length - job_.kv_cache->sink);
    const ForwardWork once =
        block_work(config, block_, std::min(samples, ceil_div(kCacheTokens, own)), length);
    for (int pass = 0; pass < kGradientPasses; ++pass) work_.cache_gradients += once;
  }

  double keys_and_values(double tokens, bool with_queries) const {
    const ModelConfig& config = job_.graph->config;
    double flops = 0;
    for (const Linear* linear : block_.reading(Slot::attention_in)) {
      if (linear->role == LinearRole::q_proj && !with_queries) continue;
      flops += 2 * tokens * static_cast<double>(linear->out) * static_cast<double>(config.hidden_size);
    }
    return flops;
  }

  bool solves_expert_mids() const {
    for (size_t i = 0; i < block_.linears.size(); ++i) {
      const Input& input = block_.linears[i].input;
      if (solver(i) != nullptr && input.slot == Slot::mlp_mid && input.expert) return true;
    }
    return false;
  }

  /// Gate and up of all experts, once to observe what they make and once to use it.
  double expert_mids(double tokens) const {
    double flops = 0;
    for (const Linear& linear : block_.linears) {
      if (linear.input.slot != Slot::mlp_in || !linear.input.expert) continue;
      flops += 2 * tokens_of(block_, linear, tokens) * static_cast<double>(linear.out) *
               static_cast<double>(linear.in);
    }
    return (carries_two_streams(job_) ? 2 : 1) * flops;
  }

  void observe(const ObservedInput& input, double tokens) {
    const auto width = static_cast<double>(input.width);
    constexpr auto kProduct = static_cast<double>(StatsCollector::kChunkTokens);
    const double limit = std::ceil(static_cast<double>(kReportTokens) / kProduct) * kProduct;
    if (input.wanted.gram)
      work_.gram += (input.whole_gram ? tokens : std::min(tokens, limit)) * width * (width + 1);
    if (input.wanted.cross_gram) work_.gram += 2 * tokens * width * width;
    work_.observed += (input.wanted.cross_gram ? 2 : 1) * tokens * width;
  }

  const CalibrationJob& job_;
  size_t index_;
  const Block& block_;
  RunWork& work_;
};

}  // namespace

double RunWork::flops() const {
  double sum = forward.flops() + gram + errors.flops() + cache + cache_gradients.flops() + cache_head;
  for (const Work& work : transforms) sum += work.flops();
  for (const auto& [solver, work] : solvers) sum += work.flops();
  return sum;
}

RunWork run_work(const CalibrationJob& job, int64_t samples, int64_t length, int64_t counted) {
  RunWork work;
  work.transforms.resize(job.transforms.size());
  for (size_t b = 0; b < job.tasks.size(); ++b) {
    BlockCount block(job, b, work);
    block.count_forward(samples, length);
    block.count_statistics(counted);
    block.count_folds();
    block.count_solves();
  }
  if (wants_cache_gradients(job)) {
    const ModelConfig& config = job.graph->config;
    const auto logits = static_cast<double>(work.cache_tokens) * static_cast<double>(config.vocab_size);
    work.cache_head = kHeadProducts * 2 * logits * static_cast<double>(config.hidden_size);
    work.cache_probabilities = 2 * logits;  // for their sum, and for their gradient
  }
  return work;
}

}  // namespace lathe
