#include "lib/model/experts_config.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace lathe {
namespace {

constexpr int64_t kMostExperts = 1 << 16;
constexpr int64_t kLargestWidth = int64_t{1} << 30;

int64_t expert_count(const JsonFields& fields) {
  const auto count = fields.size("num_experts", kMostExperts);
  const auto local = fields.size("num_local_experts", kMostExperts);
  if (count && local && *count != *local) {
    fields.fail("num_local_experts", fmt::format("the same as num_experts ({})", *count));
  }
  if (!count && !local) fields.required_size("num_experts", kMostExperts);
  return count ? *count : *local;
}

std::vector<bool> sparse_layers(const JsonFields& fields, const ExpertsRule& rule, int64_t num_layers) {
  std::vector<bool> sparse(num_layers, true);
  if (!rule.some_layers) return sparse;
  const int64_t step = fields.size("decoder_sparse_step", kLargestWidth).value_or(1);
  for (int64_t layer = 0; layer < num_layers; ++layer) sparse[layer] = (layer + 1) % step == 0;
  const nlohmann::json* dense = fields.find("mlp_only_layers");
  if (dense == nullptr) return sparse;
  const std::string expected = fmt::format("a list of layers below num_hidden_layers ({})", num_layers);
  if (!dense->is_array()) fields.fail("mlp_only_layers", expected);
  for (const nlohmann::json& layer : *dense) {
    if (!layer.is_number_integer() || layer < 0 || layer >= num_layers)
      fields.fail("mlp_only_layers", expected);
    sparse[layer.get<int64_t>()] = false;
  }
  return sparse;
}

}  // namespace

void parse_experts_config(const JsonFields& fields, const ExpertsRule& rule, ModelConfig& config) {
  ExpertsConfig experts;
  experts.count = expert_count(fields);
  experts.per_token = fields.required_size("num_experts_per_tok", kMostExperts);
  if (experts.per_token > experts.count) {
    fields.fail("num_experts_per_tok", fmt::format("at most the number of experts ({})", experts.count));
  }
  experts.width = fields.required_size(std::string(rule.width_key), kLargestWidth);
  if (rule.shared)
    experts.shared_width = fields.required_size("shared_expert_intermediate_size", kLargestWidth);
  experts.normalise = rule.always_normalise || fields.flag("norm_topk_prob").value_or(false);
  experts.layers = sparse_layers(fields, rule, config.num_layers);
  if (std::ranges::find(experts.layers, true) == experts.layers.end()) {
    fields.fail("mlp_only_layers", "at least one layer with experts (decoder_sparse_step leaves out others)");
  }
  config.experts = std::move(experts);
}

}  // namespace lathe
