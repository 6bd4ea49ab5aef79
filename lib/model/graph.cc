#include "lib/model/graph.h"

#include <algorithm>
#include <array>

#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "lib/model/arch/families.h"

namespace lathe {
namespace {

struct RoleRow {
  LinearRole role;
  std::string_view name, part;  // part: the recipe's word for attention or MLP; empty for the others
};

constexpr std::array<RoleRow, 13> kRoles = {{
    {LinearRole::q_proj, "q_proj", "attention"},
    {LinearRole::k_proj, "k_proj", "attention"},
    {LinearRole::v_proj, "v_proj", "attention"},
    {LinearRole::qkv_proj, "qkv_proj", "attention"},
    {LinearRole::o_proj, "o_proj", "attention"},
    {LinearRole::gate_proj, "gate_proj", "mlp"},
    {LinearRole::up_proj, "up_proj", "mlp"},
    {LinearRole::gate_up_proj, "gate_up_proj", "mlp"},
    {LinearRole::down_proj, "down_proj", "mlp"},
    {LinearRole::router, "router", ""},
    {LinearRole::shared_expert_gate, "shared_expert_gate", ""},
    {LinearRole::lm_head, "lm_head", ""},
    {LinearRole::other, "other", ""},
}};

const RoleRow& row_of(LinearRole role) {
  for (const RoleRow& row : kRoles) {
    if (row.role == role) return row;
  }
  internal_error("LinearRole {} has no row", static_cast<int>(role));
}

using Expected = std::map<std::string, std::vector<int64_t>>;

void expect(Expected& expected, const Norm& norm) {
  if (!norm.name.empty()) expected[norm.name + ".weight"] = {norm.width};
}

void expect(Expected& expected, const Linear& linear) {
  expected[linear.name + ".weight"] = {linear.out, linear.in};
  if (linear.bias) expected[linear.name + ".bias"] = {linear.out};
}

std::string missing_message(const ModelGraph& graph, const Expected& expected,
                            const std::map<std::string, TensorInfo>& tensors, const std::string& first) {
  const auto missing =
      std::ranges::count_if(expected, [&](const auto& entry) { return !tensors.contains(entry.first); });
  std::string text = fmt::format("tensor '{}' {} is missing", first, describe_shape(expected.at(first)));
  if (missing > 1)
    text += fmt::format(" (and {} more of the {} that config.json implies)", missing - 1, expected.size());
  if (first == graph.lm_head().name + ".weight")
    text += "; if the head is the embedding, set tie_word_embeddings to true";
  return text;
}

// Weights of two or more dimensions are held to the dtype that config.json declares; norms and biases may be
// wider.
void check_dtype(const ModelConfig& config, const std::string& name, const TensorInfo& info,
                 const std::string& folder) {
  const bool readable = info.dtype == DType::F16 || info.dtype == DType::BF16 || info.dtype == DType::F32;
  if (!readable) {
    user_error("{}: tensor '{}': expected F16, BF16 or F32 weights, found {}; convert the checkpoint first",
               folder, name, info.describe());
  }
  if (config.dtype_declared && info.shape.size() > 1 && info.dtype != config.dtype) {
    user_error(
        "{}: tensor '{}': config.json declares {} weights, found {}; correct its dtype key or the weights",
        folder, name, name_of(config.dtype), info.describe());
  }
}

// A bias that the graph does not know would be dropped in silence.
void check_no_stray_bias(const Linear& linear, const std::map<std::string, TensorInfo>& tensors,
                         const std::string& model_type, const std::string& folder) {
  const std::string name = linear.name + ".bias";
  if (linear.bias || !tensors.contains(name)) return;
  user_error("{}: tensor '{}': config.json (model_type '{}') says that this linear has no bias, found {}",
             folder, name, model_type, tensors.at(name).describe());
}

}  // namespace

std::string_view name_of(LinearRole role) { return row_of(role).name; }

bool word_matches(const Linear& linear, std::string_view target) {
  const RoleRow& row = row_of(linear.role);
  const bool gate = linear.role == LinearRole::router || linear.role == LinearRole::shared_expert_gate;
  if (target == "linear") return !gate;
  if (target == "expert") return linear.input.expert.has_value();
  if (target == "shared_expert") return row.part == "mlp" && linear.shared_expert;
  return target == row.name || (!row.part.empty() && target == row.part);
}

const std::vector<std::string>& role_targets() {
  static const std::vector<std::string> kTargets = [] {
    std::vector<std::string> targets = {"linear", "attention", "mlp", "expert", "shared_expert"};
    for (const RoleRow& row : kRoles) targets.emplace_back(row.name);
    return targets;
  }();
  return kTargets;
}

std::string_view name_of(Slot slot) {
  switch (slot) {
    case Slot::attention_in:
      return "attention_in";
    case Slot::attention_out:
      return "attention_out";
    case Slot::mlp_in:
      return "mlp_in";
    case Slot::mlp_mid:
      return "mlp_mid";
    case Slot::head_in:
      return "head_in";
  }
  internal_error("Slot {}", static_cast<int>(slot));
}

std::string name_of(const Input& input) {
  const std::string slot(name_of(input.slot));
  return input.expert ? fmt::format("{} of expert {}", slot, *input.expert) : slot;
}

const Linear* Block::find(LinearRole role, std::optional<int64_t> expert) const {
  const auto found = std::ranges::find_if(
      linears, [&](const Linear& linear) { return linear.role == role && linear.input.expert == expert; });
  return found == linears.end() ? nullptr : &*found;
}

std::vector<const Linear*> Block::reading(const Input& input) const {
  std::vector<const Linear*> readers;
  for (const Linear& linear : linears) {
    if (linear.input == input) readers.push_back(&linear);
  }
  return readers;
}

std::vector<const Linear*> Block::consumers(const ScaleEdge& edge) const {
  if (edge.producer_kind == ScaleEdge::Producer::linear) return reading(edge.input);
  std::vector<const Linear*> readers;
  for (const Linear& linear : linears) {
    if (linear.input.slot == edge.input.slot) readers.push_back(&linear);
  }
  return readers;
}

std::vector<const Norm*> Block::norms() const {
  std::vector<const Norm*> present;
  for (const Norm* norm :
       {&attention_norm, &mlp_norm, &q_norm, &k_norm, &attention_out_norm, &mlp_out_norm}) {
    if (!norm->name.empty()) present.push_back(norm);
  }
  return present;
}

std::vector<Linear> ModelGraph::linears() const {
  std::vector<Linear> all;
  for (const Block& block : blocks) all.insert(all.end(), block.linears.begin(), block.linears.end());
  if (!config.tie_word_embeddings) all.push_back(lm_head());
  return all;
}

std::map<std::string, std::vector<int64_t>> ModelGraph::expected_tensors() const {
  Expected expected;
  expected[embedding + ".weight"] = {config.vocab_size, config.hidden_size};
  for (const Block& block : blocks) {
    for (const Norm* norm : block.norms()) expect(expected, *norm);
    for (const Linear& linear : block.linears) expect(expected, linear);
  }
  expect(expected, final_norm());
  if (!config.tie_word_embeddings) expect(expected, lm_head());
  return expected;
}

namespace {

/// UserError where a stacked tensor is not of the shape that config.json implies, or stands beside the
/// weights that it stands for.
void check_stacked(const Linear& linear, const std::map<std::string, TensorInfo>& tensors,
                   const std::string& folder) {
  const TensorInfo& found = tensors.at(linear.stored->tensor);
  if (found.shape != linear.stored->shape) {
    user_error("{}: tensor '{}': config.json implies the shape {}, found {}", folder, linear.stored->tensor,
               describe_shape(linear.stored->shape), found.describe());
  }
  if (tensors.contains(linear.name + ".weight")) {
    user_error("{}: tensor '{}' and '{}' both hold one weight; remove one of them", folder,
               linear.stored->tensor, linear.name + ".weight");
  }
}

}  // namespace

std::map<std::string, std::vector<const Linear*>> ModelGraph::stacked_tensors(
    const std::map<std::string, TensorInfo>& tensors, const std::string& folder) const {
  std::map<std::string, std::vector<const Linear*>> stacked;
  for (const Block& block : blocks) {
    for (const Linear& linear : block.linears) {
      if (!linear.stored || !tensors.contains(linear.stored->tensor)) continue;
      check_stacked(linear, tensors, folder);
      stacked[linear.stored->tensor].push_back(&linear);
    }
  }
  return stacked;
}

ModelGraph build_graph(const ModelConfig& config) {
  const DecoderFamily* family = find_family(config.model_type);
  if (family == nullptr) user_error("{}", unsupported_family_message(config.model_type));
  return build_decoder(*family, config);
}

std::vector<FamilyInfo> supported_families() {
  std::vector<FamilyInfo> infos;
  for (const DecoderFamily* family : families()) {
    infos.push_back({std::string(family->model_type), std::string(family->description)});
  }
  return infos;
}

std::string unsupported_family_message(const std::string& model_type) {
  std::vector<std::string> names;
  for (const DecoderFamily* family : families()) names.emplace_back(family->model_type);
  return fmt::format("model_type '{}' is not supported; supported are {}{}", model_type, join_words(names),
                     did_you_mean(model_type, names));
}

namespace {

/// A head that predicts tokens further on, of DeepSeek's and GLM's spelling: a block beyond num_hidden_layers
/// whose input is eh_proj of the normed embedding and hidden state. Others (mtp.*) stand outside the blocks.
bool is_prediction_head(const std::string& prefix, const std::map<std::string, TensorInfo>& tensors) {
  return tensors.contains(prefix + ".eh_proj.weight");
}

/// A block beyond num_hidden_layers would be carried along and never run: the model would silently be another
/// one. Prediction heads are carried along.
void check_no_uncounted_block(const ModelGraph& graph, const std::map<std::string, TensorInfo>& tensors,
                              const std::string& folder) {
  const std::string& first = graph.blocks.front().prefix;  // "model.layers.0"
  const std::string stem = first.substr(0, first.rfind('.') + 1);
  for (auto it = tensors.lower_bound(stem); it != tensors.end() && it->first.starts_with(stem); ++it) {
    const std::string prefix = it->first.substr(0, it->first.find('.', stem.size()));
    const bool counted = std::any_of(graph.blocks.begin(), graph.blocks.end(),
                                     [&](const Block& block) { return block.prefix == prefix; });
    if (!counted && !is_prediction_head(prefix, tensors)) {
      user_error("{}: tensor '{}': config.json says num_hidden_layers {}, so no block '{}' is expected",
                 folder, it->first, graph.blocks.size(), prefix);
    }
  }
}

/// The same for an expert beyond the number that config.json gives.
void check_no_uncounted_expert(const Block& block, const Expected& expected,
                               const std::map<std::string, TensorInfo>& tensors, const std::string& folder) {
  if (!block.experts) return;
  const std::string& first = block.find(LinearRole::gate_proj, 0)->name;  // "...mlp.experts.0.gate_proj"
  const std::string stem = first.substr(0, first.rfind('.', first.rfind('.') - 1) + 1);
  for (auto it = tensors.lower_bound(stem); it != tensors.end() && it->first.starts_with(stem); ++it) {
    if (expected.contains(it->first)) continue;
    user_error("{}: tensor '{}': not expected beside the {} experts that config.json gives", folder,
               it->first, block.experts->count);
  }
}

}  // namespace

void check_tensors(const ModelGraph& graph, const std::map<std::string, TensorInfo>& tensors,
                   const std::string& folder) {
  const Expected expected = graph.expected_tensors();
  for (const auto& [name, shape] : expected) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) user_error("{}: {}", folder, missing_message(graph, expected, tensors, name));
    if (found->second.shape != shape) {
      user_error("{}: tensor '{}': config.json implies the shape {}, found {}", folder, name,
                 describe_shape(shape), found->second.describe());
    }
    check_dtype(graph.config, name, found->second, folder);
  }
  for (const Block& block : graph.blocks) {
    for (const Linear& linear : block.linears) {
      check_no_stray_bias(linear, tensors, graph.config.model_type, folder);
    }
    check_no_uncounted_expert(block, expected, tensors, folder);
  }
  check_no_stray_bias(graph.lm_head(), tensors, graph.config.model_type, folder);
  check_no_uncounted_block(graph, tensors, folder);
}

}  // namespace lathe
