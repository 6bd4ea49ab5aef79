#include "tests/bench/calibration/block_bench.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <functional>
#include <memory>

#include "lib/model/attention.h"
#include "lib/tensor/aten.h"
#include "lib/tensor/matrix_product.h"
#include "lib/tensor/openblas.h"

namespace lathe::bench {
namespace {

/// The collectors of a block's four inputs for one set of statistics.
class SlotCollectors {
 public:
  SlotCollectors(const Block& block, StatSet set, c10::Device device) : set_(set) {
    for (const Slot slot : kSlots) {
      collectors_.push_back(
          std::make_unique<StatsCollector>(set, width_of(block, slot), device, std::string(name_of(slot))));
    }
  }
  void observe(Slot slot, const at::Tensor& x) {
    bench::observe(*collectors_[static_cast<size_t>(slot)], set_, x, x);
  }
  void finish() {
    for (const auto& collector : collectors_) collector->finish();
  }

 private:
  StatSet set_;
  std::vector<std::unique_ptr<StatsCollector>> collectors_;
};

StatSet every_statistic() {
  StatSet set;
  for (const StatRow& row : kStatRows) set.*row.member = !row.pairs;
  return set;
}

class Measurement {
 public:
  Measurement(const BenchModel& model, c10::Device device)
      : model_(model),
        device_(device),
        rope_(rope_tables(model.graph.config, model.context, device)),
        with_gram_(model.graph.blocks.front(), {.gram = true}, device),
        with_every_(model.graph.blocks.front(), every_statistic(), device) {
    for (const StatRow& row : kStatRows)
      single_.emplace_back(model.graph.blocks.front(), set_of(row), device);
  }

  /// Measures one block and returns its output.
  at::Tensor round(const Block& block, const BlockWeights& weights, const at::Tensor& hidden) {
    const BlockForward forward(model_.graph.config, block, weights, rope_);
    measure_products(block, weights);
    times_.attention.push_back(measure_attention());
    at::Tensor out;
    times_.forward.push_back(measure(device_, [&] { out = forward.run(hidden); }));
    measure_statistics(forward, hidden);
    times_.forward_gram.push_back(measure(device_, [&] { run_observed(forward, hidden, with_gram_); }));
    times_.forward_every.push_back(measure(device_, [&] { run_observed(forward, hidden, with_every_); }));
    return out;
  }

  /// Loads code and fills caches and allocators.
  void warm_up(const Block& block, const BlockWeights& weights, const at::Tensor& hidden) {
    run_observed(BlockForward(model_.graph.config, block, weights, rope_), hidden, with_every_);
    measure_attention();
  }

  BlockTimes finish() {
    for (size_t i = 0; i < kStatRows.size(); ++i)
      times_.finish[i] = measure(device_, [&] { single_[i].finish(); });
    return std::move(times_);
  }

 private:
  static void run_observed(const BlockForward& forward, const at::Tensor& hidden,
                           SlotCollectors& collectors) {
    run_stages(forward, hidden, [&](Slot slot, const at::Tensor& x) { collectors.observe(slot, x); });
  }

  /// Each linear's product as the program does it and, where that is not libtorch's, as libtorch does; on
  /// inputs that were not made just before.
  void measure_products(const Block& block, const BlockWeights& weights) {
    const bool both = device_.is_cpu() && OpenBlas::instance() != nullptr;
    Timing all, libtorch;
    for (const Linear& linear : block.linears) {
      const at::Tensor weight = weights.compute_weight(linear);
      at::Tensor& x = inputs_[linear.in];
      if (!x.defined()) x = at::randn({model_.tokens(), linear.in}, weight.options());
      const Timing time = measure(device_, [&] { matrix_product(x, weight.t()); });
      const std::string role(name_of(linear.role));
      times_.linears[role].push_back(time);
      all += time;
      if (!both) continue;
      times_.libtorch_linears[role].push_back(measure(device_, [&] { at::mm(x, weight.t()); }));
      libtorch += times_.libtorch_linears[role].back();
    }
    times_.products.push_back(all);
    if (both) times_.libtorch_products.push_back(libtorch);
  }

  Timing measure_attention() {
    const ModelConfig& config = model_.graph.config;
    const auto heads = [&](int64_t count) {
      return at::randn({model_.batch, model_.context, count, config.head_dim}, rope_.cos.options())
          .to(to_scalar_type(compute_dtype(model_, device_)))
          .transpose(1, 2);
    };
    const at::Tensor q = heads(config.num_heads), k = heads(config.num_kv_heads),
                     v = heads(config.num_kv_heads);
    const Block& block = model_.graph.blocks.front();
    const AttentionRule rule{block.attention_scale, block.sliding_window, block.attention_softcap};
    return measure(device_, [&] {
      attend(q, k, v, rule).transpose(1, 2).reshape({q.size(0), q.size(2), -1});
    });
  }

  void measure_statistics(const BlockForward& forward, const at::Tensor& hidden) {
    std::array<Timing, kStatRows.size()> sums{};
    run_stages(forward, hidden, [&](Slot slot, const at::Tensor& x) {
      for (size_t i = 0; i < kStatRows.size(); ++i)
        sums[i] += measure(device_, [&] { single_[i].observe(slot, x); });
    });
    for (size_t i = 0; i < kStatRows.size(); ++i) times_.statistics[i].push_back(sums[i]);
  }

  const BenchModel& model_;
  c10::Device device_;
  RopeTables rope_;
  SlotCollectors with_gram_, with_every_;
  std::vector<SlotCollectors> single_;
  std::map<int64_t, at::Tensor> inputs_;  // by width
  BlockTimes times_;
};

}  // namespace

BlockTimes measure_blocks(const BenchModel& model, c10::Device device, int64_t rounds) {
  const c10::NoGradGuard no_grad;
  Measurement measurement(model, device);
  const std::vector<Block>& blocks = model.graph.blocks;
  const auto repeats = (rounds + std::ssize(blocks) - 1) / std::ssize(blocks);
  at::Tensor hidden = first_hidden(model, device);
  for (const Block& block : blocks) {
    const BlockWeights weights(block, *model.weights, device, compute_dtype(model, device));
    if (block.index == 0) measurement.warm_up(block, weights, hidden);
    at::Tensor out;
    for (int64_t repeat = 0; repeat < repeats; ++repeat) out = measurement.round(block, weights, hidden);
    hidden = out;
  }
  return measurement.finish();
}

}  // namespace lathe::bench
