// Where hidden states come from: the token embeddings of all samples.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/activations/activation_store.h"
#include "lib/model/graph.h"
#include "lib/model/weight_source.h"

namespace lathe {

/// Fills the store, made for `rows` x `length` = ids' shape (Long, CPU) and the model's hidden size. Only the
/// rows of the embedding that a chunk names are converted, so the table itself never stands in memory.
/// Cancellable.
void embed_samples(const ModelGraph& graph, const WeightSource& weights, const at::Tensor& ids,
                   c10::Device device, ActivationStore& store);

}  // namespace lathe
