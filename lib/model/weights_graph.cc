#include "lib/model/weights_graph.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <set>
#include <string_view>

#include "lib/base/error.h"
#include "lib/model/arch/families.h"

namespace lathe {
namespace {

constexpr std::string_view kWeight = ".weight";

/// Parts of a module's last name that say what it is where it isn't a linear of a block: llama's
/// embed_tokens, GPT-2's wte and wpe, GPT-NeoX's embed_in and embed_out, BERT's word_embeddings, T5's shared;
/// norms; output heads.
constexpr std::array<std::string_view, 6> kNoLinear = {"embed", "norm", "wte", "wpe", "lm_head", "ln_"};
constexpr std::array<std::string_view, 3> kWholeNames = {"shared", "output", "head"};

constexpr std::array kRoles = {LinearRole::q_proj,
                               LinearRole::k_proj,
                               LinearRole::v_proj,
                               LinearRole::qkv_proj,
                               LinearRole::o_proj,
                               LinearRole::gate_proj,
                               LinearRole::up_proj,
                               LinearRole::gate_up_proj,
                               LinearRole::down_proj,
                               LinearRole::router,
                               LinearRole::shared_expert_gate};

bool is_float(DType dtype) { return dtype == DType::F16 || dtype == DType::BF16 || dtype == DType::F32; }

std::string_view last_name(std::string_view module) { return module.substr(module.rfind('.') + 1); }

bool is_linear_name(std::string_view module) {
  const std::string_view last = last_name(module);
  return std::ranges::none_of(
             kNoLinear, [&](std::string_view part) { return last.find(part) != std::string_view::npos; }) &&
         std::ranges::find(kWholeNames, last) == kWholeNames.end();
}

LinearRole role_of(std::string_view module) {
  const std::string_view last = last_name(module);
  if (last == "gate") return LinearRole::router;
  const auto role = std::ranges::find_if(kRoles, [&](LinearRole r) { return name_of(r) == last; });
  return role == kRoles.end() ? LinearRole::other : *role;
}

/// Names in the order of a forward pass as far as numbers tell it.
bool before(std::string_view a, std::string_view b) {
  const auto digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
  while (!a.empty() && !b.empty()) {
    if (digit(a[0]) && digit(b[0])) {
      const auto number = [&](std::string_view& text) {
        size_t end = 0;
        while (end < text.size() && digit(text[end])) ++end;
        std::string_view digits = text.substr(0, end);
        text.remove_prefix(end);
        digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
        return digits;
      };
      const std::string_view x = number(a), y = number(b);
      if (x != y) return x.size() != y.size() ? x.size() < y.size() : x < y;
    } else {
      if (a[0] != b[0]) return a[0] < b[0];
      a.remove_prefix(1);
      b.remove_prefix(1);
    }
  }
  return a.size() < b.size();
}

/// Modules inside another one of the list (an adapter's, say) are none of their own: their tensors belong to
/// it.
void drop_nested(std::vector<Block>& blocks) {
  std::set<std::string, std::less<>> modules;
  for (const Block& block : blocks) modules.insert(block.prefix);
  std::erase_if(blocks, [&](const Block& block) {
    const std::string_view name = block.prefix;
    for (size_t dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.', dot + 1)) {
      if (modules.contains(name.substr(0, dot))) return true;
    }
    return false;
  });
}

Linear linear_of(const std::string& module, const TensorInfo& info, bool bias) {
  return {.name = module,
          .role = role_of(module),
          .input = {},
          .out = info.shape[0],
          .in = info.shape[1],
          .bias = bias};
}

DType most_common_dtype(const std::map<std::string, TensorInfo>& tensors, const std::vector<Block>& blocks) {
  std::map<DType, int64_t> weights;
  for (const Block& block : blocks) {
    const TensorInfo& info = tensors.at(block.prefix + std::string(kWeight));
    weights[info.dtype] += info.numel();
  }
  return std::ranges::max_element(weights, {}, [](const auto& entry) { return entry.second; })->first;
}

}  // namespace

WeightsGraph weights_graph(const std::string& model_type, const std::map<std::string, TensorInfo>& tensors,
                           const std::string& folder) {
  WeightsGraph result;
  ModelGraph& graph = result.graph;
  graph.config.model_type = model_type;
  graph.head.prefix = "lm_head";
  graph.head.linears = {
      {.name = graph.head.prefix, .role = LinearRole::lm_head, .input = {Slot::head_in, std::nullopt}}};
  for (const auto& [name, info] : tensors) {
    if (!is_float(info.dtype)) continue;
    if (info.shape.size() > 2) result.other_shapes.emplace_back(name, info);
    if (info.shape.size() != 2 || !name.ends_with(kWeight)) continue;
    const std::string module = name.substr(0, name.size() - kWeight.size());
    if (!is_linear_name(module)) continue;
    Block block;
    block.prefix = module;
    block.linears = {linear_of(module, info, tensors.contains(module + ".bias"))};
    graph.blocks.push_back(std::move(block));
  }
  drop_nested(graph.blocks);
  if (graph.blocks.empty())
    user_error("{}: holds no matrix '<module>.weight' that could be quantised", folder);
  std::ranges::sort(graph.blocks, [](const Block& a, const Block& b) { return before(a.prefix, b.prefix); });
  for (size_t i = 0; i < graph.blocks.size(); ++i) graph.blocks[i].index = static_cast<int64_t>(i);
  graph.config.dtype = most_common_dtype(tensors, graph.blocks);
  graph.config.dtype_declared = true;
  return result;
}

bool is_known_family(const std::string& model_type) { return find_family(model_type) != nullptr; }

}  // namespace lathe
