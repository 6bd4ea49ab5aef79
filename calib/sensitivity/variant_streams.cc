#include "calib/sensitivity/variant_streams.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <numeric>

#include "lib/activations/embed_samples.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/eval/head_pieces.h"
#include "lib/eval/logit_sums.h"
#include "lib/eval/pieced_head.h"
#include "lib/kernels/dequantize.h"

namespace lathe {
namespace {

/// The model with one table rounded.
class RoundedTable final : public WeightSource {
 public:
  RoundedTable(const WeightSource& weights, const TableGroup& table, size_t rounding)
      : weights_(weights), tensor_(table.tensor), round_(table.roundings[rounding]) {}

  bool contains(const std::string& name) const override { return weights_.contains(name); }
  at::Tensor load(const std::string& name) const override {
    const at::Tensor values = weights_.load(name);
    return name == tensor_ ? round_(values) : values;
  }
  at::Tensor load_rows(const std::string& name, const at::Tensor& rows) const override {
    const at::Tensor values = weights_.load_rows(name, rows);
    return name == tensor_ ? round_(values.contiguous()) : values;
  }
  bool looks_rows_up(const std::string& name) const override { return weights_.looks_rows_up(name); }

 private:
  const WeightSource& weights_;
  const std::string& tensor_;
  const std::function<at::Tensor(const at::Tensor&)>& round_;
};

/// The model with its head quantised, whose rows are dequantised as they are asked for.
class QuantizedHead final : public WeightSource {
 public:
  QuantizedHead(const ModelGraph& graph, const WeightSource& weights, QuantizedTensor quantized)
      : linear_(graph.lm_head().name), weights_(weights), quantized_(std::move(quantized)) {}

  bool contains(const std::string& name) const override { return weights_.contains(name); }
  at::Tensor load(const std::string& name) const override {
    return is_head(name) ? kernels::dequantized_weight(quantized_) : weights_.load(name);
  }
  at::Tensor load_rows(const std::string& name, const at::Tensor& rows) const override {
    if (!is_head(name)) return weights_.load_rows(name, rows);
    const auto first = rows[0].item<int64_t>(), count = rows.size(0);
    LATHE_ASSERT(rows[count - 1].item<int64_t>() == first + count - 1, "rows of {} that are no neighbours",
                 name);
    return kernels::dequantized_rows(quantized_)(first, first + count);
  }
  bool looks_rows_up(const std::string& name) const override {
    return is_head(name) || weights_.looks_rows_up(name);
  }
  std::optional<InputQuantizer> input_quantizer(const std::string& linear) const override {
    return linear == linear_ ? quantized_.input : weights_.input_quantizer(linear);
  }

 private:
  bool is_head(const std::string& name) const { return name == linear_ + ".weight"; }

  std::string linear_;
  const WeightSource& weights_;
  QuantizedTensor quantized_;
};

}  // namespace

VariantStreams::VariantStreams(const SensitivityJob& job, int64_t variants)
    : job_(job),
      graph_(*job.calibration.graph),
      device_(job.calibration.device),
      streams_(variants + 1),
      rope_(rope_tables(graph_.config, job.held_out.size(1), device_)),
      hidden_(store_spec(job.variants, job.held_out.size(0) * streams_, job.held_out.size(1),
                         graph_.config.hidden_size, device_)) {
  const at::Tensor& ids = job.held_out;
  ActivationStore embedded(store_spec({}, ids.size(0), ids.size(1), graph_.config.hidden_size, device_));
  embed_samples(graph_, *job.calibration.weights, ids, device_, embedded);
  for (int64_t sample = 0; sample < ids.size(0); ++sample)
    hidden_.write(rows_of(sample, 0, 1), embedded.read({sample, 1}));
}

void VariantStreams::add_embedding(const TableGroup& table, size_t rounding, bool whole) {
  LATHE_ASSERT(live_ < streams_, "one variant too many");
  const at::Tensor& ids = job_.held_out;
  const RoundedTable weights(*job_.calibration.weights, table, rounding);
  ActivationStore embedded(store_spec({}, ids.size(0), ids.size(1), graph_.config.hidden_size, device_));
  embed_samples(graph_, weights, ids, device_, embedded);
  for (int64_t sample = 0; sample < ids.size(0); ++sample)
    hidden_.write(rows_of(sample, live_, 1), embedded.read({sample, 1}));
  if (whole)
    heads_.push_back({live_, std::make_shared<RoundedTable>(*job_.calibration.weights, table, rounding)});
  settled_ = ++live_;
}

void VariantStreams::add_head_table(const TableGroup& table, size_t rounding) {
  add_own_head(std::make_shared<RoundedTable>(*job_.calibration.weights, table, rounding));
}

void VariantStreams::add_head(const QuantizedTensor& quantized) {
  add_own_head(std::make_shared<QuantizedHead>(graph_, *job_.calibration.weights, quantized));
}

void VariantStreams::add_own_head(std::shared_ptr<const WeightSource> weights) {
  LATHE_ASSERT(live_ < streams_, "one variant too many");
  for (int64_t sample = 0; sample < job_.held_out.size(0); ++sample) {
    const at::Tensor states = hidden_.read(rows_of(sample, 0, 1)).clone();
    hidden_.write(rows_of(sample, live_, 1), states);
  }
  heads_.push_back({live_, std::move(weights)});
  settled_ = ++live_;
}

void VariantStreams::add(const Block& block, const BlockWeights& weights) {
  LATHE_ASSERT(live_ < streams_, "one variant too many");
  const BlockForward forward(graph_.config, block, weights, rope_);
  for (int64_t sample = 0; sample < job_.held_out.size(0); ++sample) {
    throw_if_cancelled();
    const at::Tensor left = forward.run(hidden_.read(rows_of(sample, 0, 1)));
    hidden_.write(rows_of(sample, live_, 1), left);
  }
  ++live_;
}

std::vector<RowRange> VariantStreams::moved_together(RowRange rows) const {
  const int64_t chunk = chunk_rows(hidden_.length(), device_);
  std::vector<RowRange> result;
  for (int64_t first = rows.first; first < rows.end();) {
    const int64_t end = std::min(rows.end(), (first / chunk + 1) * chunk);
    result.push_back({first, end - first});
    first = end;
  }
  return result;
}

void VariantStreams::run(const BlockForward& forward, int64_t first, int64_t count) {
  for (int64_t sample = 0; sample < job_.held_out.size(0); ++sample) {
    for (const RowRange& rows : moved_together(rows_of(sample, first, count))) {
      throw_if_cancelled();
      hidden_.write(rows, forward.run(hidden_.read(rows)));
    }
  }
}

void VariantStreams::pass(const Block& block, const BlockWeights& weights) {
  run(BlockForward(graph_.config, block, weights, rope_), 0, settled_);
  settled_ = live_;
}

int64_t VariantStreams::valid(int64_t sample) const {
  return job_.held_out_lengths.empty() ? job_.held_out.size(1)
                                       : job_.held_out_lengths[static_cast<size_t>(sample)];
}

int64_t VariantStreams::tokens() const {
  int64_t sum = 0;
  for (int64_t sample = 0; sample < job_.held_out.size(0); ++sample) sum += valid(sample);
  return sum;
}

void VariantStreams::add_divergences(int64_t sample, std::vector<double>& sums) {
  const int64_t length = valid(sample), width = hidden_.width();
  const EvalInput model{&graph_, job_.calibration.weights};
  std::vector<PiecedHead> heads = {PiecedHead(model, "model", device_)};
  std::vector<size_t> head_of(static_cast<size_t>(live_), 0);
  for (const OwnHead& own : heads_) {
    head_of[static_cast<size_t>(own.stream)] = heads.size();
    heads.emplace_back(EvalInput{&graph_, own.weights.get()}, "model with its head rounded", device_);
  }
  for (PiecedHead& head : heads) head.open();
  const at::Tensor none = at::full({length}, -1, at::TensorOptions().dtype(at::kLong).device(device_));
  std::vector<DivergenceSums> divergence;
  for (int64_t v = 1; v < live_; ++v) divergence.emplace_back(none);
  const HeadPieces pieces = head_pieces(graph_.config.vocab_size, width, device_);
  const at::Tensor reference = hidden_.read(rows_of(sample, 0, 1)).narrow(1, 0, length).clone();
  for (const RowRange tokens : cut_rows(graph_.config.vocab_size, pieces.tokens)) {
    for (PiecedHead& head : heads) head.load(tokens);
    for (const RowRange slice : cut_rows(length, pieces.positions)) {
      const at::Tensor expected = heads.front().logits(reference.narrow(1, slice.first, slice.count));
      const RowRange variants = rows_of(sample, 1, live_ - 1);
      for (const RowRange& rows : moved_together(variants)) {
        throw_if_cancelled();
        const at::Tensor states = hidden_.read(rows);
        for (int64_t row = rows.first; row < rows.end(); ++row) {
          const at::Tensor mine = states.narrow(0, row - rows.first, 1).narrow(1, slice.first, slice.count);
          const auto v = static_cast<size_t>(row - variants.first);
          const PiecedHead& head = heads[head_of[v + 1]];
          divergence[v].add(head.logits(mine), expected, {slice.first, tokens.first});
        }
      }
    }
  }
  for (size_t v = 0; v < divergence.size(); ++v) sums[v] += divergence[v].divergence().sum().item<double>();
}

std::vector<double> VariantStreams::divergences() {
  std::vector<double> sums(static_cast<size_t>(live_ - 1), 0.0);
  for (int64_t sample = 0; sample < job_.held_out.size(0); ++sample) add_divergences(sample, sums);
  for (double& sum : sums) sum /= static_cast<double>(tokens());
  return sums;
}

}  // namespace lathe
