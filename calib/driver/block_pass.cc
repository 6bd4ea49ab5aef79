#include "calib/driver/block_pass.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <optional>
#include <utility>

#include "calib/stats/stats_collector.h"
#include "lib/base/cancel.h"

namespace lathe {

BlockPass::BlockPass(const CalibrationJob& job, size_t index, BlockWeights weights, const RopeTables& rope,
                     Stream& stream)
    : job_(job),
      block_(job.graph->blocks[index]),
      weights_(std::move(weights)),
      solver_(job, index, weights_),
      stream_(job.graph->config, block_, weights_, rope, stream),
      chunks_(cut_rows(job.ids.size(0), chunk_rows(job.ids.size(1), job.device))) {}

BlockOutcome BlockPass::run(const Progress& progress) {
  progress("attention input");
  calibrate(
      Slot::attention_in, [](BlockStream& s, RowRange rows) { return s.attention_in(rows); }, false);
  progress("attention");
  stream_.begin_attention_out();
  calibrate(
      Slot::attention_out, [](BlockStream& s, RowRange rows) { return s.attention_out(rows); }, false);
  progress("mlp input");
  calibrate(
      Slot::mlp_in, [](BlockStream& s, RowRange rows) { return s.mlp_in(rows); }, true);
  progress("mlp");
  stream_.begin_mlp_mid();
  calibrate(
      Slot::mlp_mid, [](BlockStream& s, RowRange rows) { return s.mlp_mid(rows); }, false);
  sweep([&](RowRange rows) { stream_.leave(rows); });
  return solver_.take_outcome();
}

void BlockPass::calibrate(Slot slot, const Produce& produce, bool moves) {
  const std::vector<size_t> readers = solver_.readers(slot);
  if (readers.empty()) {
    if (moves) sweep([&](RowRange rows) { produce(stream_, rows); });
    return;
  }
  std::optional<StatsCollector> collector;
  collector.emplace(solver_.needs(readers), block_.linears[readers.front()].in, job_.device,
                    fmt::format("{}, {}", block_.prefix, name_of(slot)));
  sweep([&](RowRange rows) { collector->observe(produce(stream_, rows)); });
  InputStats stats = collector->finish();
  collector.reset();  // its sums are as large as the statistics
  solver_.solve(slot, readers, std::move(stats),
                [&](const at::Tensor& scales) { stream_.folded(slot, scales); });
}

void BlockPass::sweep(const std::function<void(RowRange)>& visit) const {
  for (const RowRange rows : chunks_) {
    throw_if_cancelled();
    visit(rows);
  }
}

}  // namespace lathe
