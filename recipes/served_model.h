// A model that Lathe knows as a server sees it.
#pragma once

#include <map>
#include <string>

#include "lib/model/graph.h"
#include "lib/tensor/tensor_view.h"
#include "recipes/deployment.h"

namespace lathe {

/// From its graph and the headers of its tensors.
ServedModel served_model(const ModelGraph& graph, const std::map<std::string, TensorInfo>& tensors);

/// Bytes that a server has for weights on a GPU of `memory` bytes, beside KV cache and activations of `batch`
/// sequences of `context` tokens (fits, as Fit says); negative where these alone are too large.
int64_t room_for_weights(const ServedModel& model, uint64_t memory, int64_t context, int64_t batch,
                         double cache_bits);
/// And the smallest memory for so many bytes of weights.
uint64_t least_memory(const ServedModel& model, uint64_t weights, int64_t context, int64_t batch,
                      double cache_bits);

}  // namespace lathe
