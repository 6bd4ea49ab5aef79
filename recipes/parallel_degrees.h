// Between how many GPUs a server divides a model by tensor parallelism, and how much of its KV cache stands
// there then. The rules are vLLM's (read at 0052a5b); of artefacts, whose layouts have more to say, they
// stand in formats/consumers/tensor_parallel.cc:
//
//   heads      the degree has to divide their number (config/model.py, verify_with_parallel_config)
//   KV heads   it has to divide theirs, or they it: then each stands on several GPUs, and its cache with it
//              (model_executor/models/llama.py, LlamaAttention; config/model.py, get_num_kv_heads)
//   latent     what latent attention keeps stands on every GPU (get_num_kv_heads, use_mla)
//   MLP        it has to divide the intermediate size, of a dense MLP and of an expert
//              (model_executor/layers/linear.py at 0036d38, MergedColumnParallelLinear; fused_moe/layer.py)
//   groups     where inputs are cut (o_proj, down_proj), each part ends with a whole group of scales
//              (formats/consumers/tensor_parallel.cc has the rule of the plan)
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "recipes/deployment.h"

namespace lathe {

inline constexpr const char* kParallelSource =
    "vllm at 0052a5b: config/model.py, verify_with_parallel_config, get_num_kv_heads; models/llama.py";

/// Why vLLM does not divide the model between so many GPUs: "9 heads / 2". Nothing where it does. Of a model
/// whose numbers of heads aren't known only powers of two are tried. `group`: weights that share a scale, -1:
/// a row's.
std::optional<std::string> parallel_problem(const ServedModel& model, int degree, int64_t group = -1);

/// Degrees up to kMostGpus that have no problem, rising, from 1 on.
std::vector<int> parallel_degrees(const ServedModel& model, int64_t group = -1);

/// How often the model's KV cache stands on so many GPUs together, the share of each counted: 1 where each
/// has other heads.
int64_t cache_copies(const ServedModel& model, int degree);

}  // namespace lathe
