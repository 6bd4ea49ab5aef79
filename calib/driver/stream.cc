#include "calib/driver/stream.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

int64_t width_of(const Block& block, Slot slot) {
  const std::vector<const Linear*> readers = block.reading(slot);
  LATHE_ASSERT(!readers.empty(), "{}: no linear reads {}", block.prefix, name_of(slot));
  return readers.front()->in;
}

StoreSpec spec_of(const CalibrationJob& job, Placement placement, int64_t width, DType dtype) {
  HiddenStorage storage = job.storage.hidden;
  storage.placement = placement;
  return stream_spec(storage, job.ids.size(0), job.ids.size(1), width, dtype, job.device);
}

}  // namespace

int64_t inner_width(const ModelGraph& graph) {
  int64_t width = 0;
  for (const Block& block : graph.blocks) {
    for (const Slot slot : {Slot::attention_out, Slot::mlp_mid}) {
      for (const Linear* reader : block.reading(slot)) width = std::max(width, reader->in);
    }
  }
  return width;
}

StoreSpec stream_spec(const HiddenStorage& storage, int64_t samples, int64_t length, int64_t width,
                      DType dtype, c10::Device device) {
  StoreSpec spec = store_spec(storage, samples, length, width, device);
  spec.dtype = to_scalar_type(dtype);
  return spec;
}

Stream::Stream(const CalibrationJob& job)
    : hidden(spec_of(job, job.storage.hidden.placement, job.graph->config.hidden_size, DType::F32)) {
  if (job.storage.inner)
    inner.emplace(spec_of(job, *job.storage.inner, inner_width(*job.graph), job.compute));
}

Streams::Streams(const CalibrationJob& job) : observed(job), device_(job.device) {
  if (carries_two_streams(job)) reference.emplace(job);
}

std::vector<ActivationStore*> Streams::stores() {
  std::vector<ActivationStore*> stores = {&observed.hidden};
  if (reference) stores.push_back(&reference->hidden);
  return stores;
}

void Streams::hand_over(const TakeStates& take) {
  for (ActivationStore* store : stores()) {
    for (const RowRange rows : cut_rows(store->rows(), chunk_rows(store->length(), device_))) {
      throw_if_cancelled();
      take(store->read(rows).cpu().contiguous());
    }
  }
}

void Streams::restore(const FillStates& fill) {
  for (ActivationStore* store : stores()) {
    for (const RowRange rows : cut_rows(store->rows(), chunk_rows(store->length(), device_))) {
      throw_if_cancelled();
      at::Tensor states = at::empty({rows.count, store->length(), store->width()}, at::kFloat);
      fill(states);
      store->write(rows, states.to(device_));
    }
  }
}

BlockStream::BlockStream(const ModelConfig& config, const Block& block, const BlockWeights& weights,
                         const RopeTables& rope, Stream& stream)
    : block_(block),
      forward_(config, block, weights, rope),
      stream_(stream),
      inner_(config, block, weights, rope, stream.inner ? &*stream.inner : nullptr) {}

at::Tensor BlockStream::attention_in(RowRange rows) {
  return forward_.attention_in(stream_.hidden.read(rows));
}

at::Tensor BlockStream::attention_in(RowRange rows, const BlockForward& forward) const {
  return forward.attention_in(stream_.hidden.read(rows));
}

void BlockStream::begin_attention_out() {
  inner_.begin(Slot::attention_out, width_of(block_, Slot::attention_out),
               [](const BlockForward& forward, const at::Tensor& hidden) {
                 return forward.attention_out(forward.attention_in(hidden));
               });
}

at::Tensor BlockStream::attention_out(RowRange rows) { return inner_.make(rows, stream_.hidden.read(rows)); }

at::Tensor BlockStream::mlp_in(RowRange rows) {
  const at::Tensor hidden = stream_.hidden.read(rows);
  const at::Tensor attended = forward_.add_attention(hidden, inner_.use(rows, hidden));
  stream_.hidden.write(rows, attended);
  return forward_.mlp_in(attended);
}

void BlockStream::begin_mlp_mid() {
  inner_.begin(Slot::mlp_mid, width_of(block_, Slot::mlp_mid),
               [](const BlockForward& forward, const at::Tensor& hidden) {
                 return forward.mlp_mid(forward.mlp_in(hidden));
               });
}

at::Tensor BlockStream::mlp_mid(RowRange rows) { return inner_.make(rows, stream_.hidden.read(rows)); }

at::Tensor BlockStream::mlp_in_again(RowRange rows) const {
  return forward_.mlp_in(stream_.hidden.read(rows)).flatten(0, 1);
}

at::Tensor BlockStream::again(Slot slot, RowRange rows) const {
  const at::Tensor hidden = stream_.hidden.read(rows);
  if (slot == Slot::attention_in || slot == Slot::head_in) return forward_.attention_in(hidden);
  if (slot == Slot::mlp_in) return forward_.mlp_in(hidden);
  return inner_.peek(rows, hidden);
}

at::Tensor BlockStream::leave(RowRange rows, const std::vector<Routing::Rows>& routed) {
  const at::Tensor hidden = stream_.hidden.read(rows);
  at::Tensor left;
  if (block_.experts) {
    const at::Tensor shared = block_.has_shared_expert() ? inner_.use(rows, hidden) : at::Tensor();
    left = forward_.add_mlp_out(hidden, forward_.experts_out(forward_.mlp_in(hidden), shared, routed));
  } else {
    left = forward_.add_mlp(hidden, inner_.use(rows, hidden));
  }
  stream_.hidden.write(rows, left);
  return left;
}

void BlockStream::folded(Slot slot, const at::Tensor& scales) {
  if (slot == Slot::attention_out || slot == Slot::mlp_mid) inner_.divide(scales);
}

}  // namespace lathe
