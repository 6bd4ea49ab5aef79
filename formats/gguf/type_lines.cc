// Which type of blocks each matrix of a planned GGUF file gets, for people.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <set>

#include "formats/gguf/gguf_plan.h"

namespace lathe {
namespace {

/// Matrices of one line.
struct Kind {
  std::string type, why;
  bool exact = false;
  int64_t weights = 0;
  std::vector<std::string> roles;           // in the order of the file
  std::vector<std::set<int64_t>> layers{};  // of each role; none: outside the blocks

  std::set<int64_t>& layers_of(const std::string& role) {
    const auto found = std::ranges::find(roles, role);
    if (found != roles.end()) return layers[static_cast<size_t>(found - roles.begin())];
    roles.push_back(role);
    return layers.emplace_back();
  }
};

/// "q_proj"; outside the blocks "embeddings (token_embd)".
std::string role_of(const GgufTensorRule& rule, bool tied) {
  if (!rule.linear.empty()) return rule.linear.substr(rule.linear.rfind('.') + 1);
  const std::string name = rule.gguf.substr(0, rule.gguf.rfind('.'));
  if (name == "token_embd") return tied ? "embeddings and head (token_embd)" : "embeddings (token_embd)";
  return name == "output" ? "head (output)" : name;
}

/// "blocks 0 to 3, 6, 9".
std::string ranges_text(const std::set<int64_t>& layers) {
  std::vector<std::string> runs;
  for (auto first = layers.begin(); first != layers.end();) {
    auto next = std::next(first);
    int64_t last = *first;
    while (next != layers.end() && *next == last + 1) last = *next++;
    runs.push_back(last == *first ? fmt::format("{}", last) : fmt::format("{} to {}", *first, last));
    first = next;
  }
  return fmt::format("block{} {}", layers.size() == 1 ? "" : "s", fmt::join(runs, ", "));
}

/// Roles of the same blocks stand together.
std::string describe(const Kind& kind) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < kind.roles.size(); ++i) {
    if (std::find(kind.layers.begin(), kind.layers.begin() + static_cast<std::ptrdiff_t>(i),
                  kind.layers[i]) != kind.layers.begin() + static_cast<std::ptrdiff_t>(i))
      continue;
    std::vector<std::string> alike;
    for (size_t j = i; j < kind.roles.size(); ++j)
      if (kind.layers[j] == kind.layers[i]) alike.push_back(kind.roles[j]);
    const std::string names = fmt::format("{}", fmt::join(alike, ", "));
    parts.push_back(kind.layers[i].empty() ? names
                                           : fmt::format("{} ({})", names, ranges_text(kind.layers[i])));
  }
  return fmt::format("{}: {}{}{}", kind.type, fmt::join(parts, ", "),
                     kind.exact ? "; the solver's codes as they are" : "",
                     kind.why.empty() ? "" : "; " + kind.why);
}

}  // namespace

std::string why_other_type(const GgufOutputTensor& tensor) {
  if (!tensor.wanted) return {};
  const GgmlTraits& wanted = traits(*tensor.wanted);
  return fmt::format("{}'s blocks of {} don't divide its rows of {}", wanted.name, wanted.length,
                     tensor.rule.shape.back());
}

std::vector<std::string> type_lines(const GgufOutput& output) {
  const bool tied = std::ranges::none_of(
      output.tensors, [](const GgufOutputTensor& tensor) { return tensor.rule.gguf == "output.weight"; });
  std::vector<Kind> kinds;
  for (const GgufOutputTensor& tensor : output.tensors) {
    if (!tensor.rule.is_matrix()) continue;
    const std::string type(traits(tensor.type).name), why = why_other_type(tensor);
    auto kind = std::ranges::find_if(
        kinds, [&](const Kind& k) { return k.type == type && k.why == why && k.exact == tensor.exact; });
    if (kind == kinds.end())
      kind = kinds.insert(kinds.end(), Kind{.type = type, .why = why, .exact = tensor.exact, .roles = {}});
    kind->weights += tensor.rule.shape[0] * tensor.rule.shape[1];
    std::set<int64_t>& layers = kind->layers_of(role_of(tensor.rule, tied));
    if (tensor.rule.layer >= 0) layers.insert(tensor.rule.layer);
  }
  std::ranges::stable_sort(kinds, std::greater{}, &Kind::weights);
  std::vector<std::string> lines;
  for (const Kind& kind : kinds) lines.push_back(describe(kind));
  return lines;
}

}  // namespace lathe
