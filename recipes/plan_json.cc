// The plan for programs.
#include <fmt/format.h>

#include "lib/model/fused_linears.h"
#include "recipes/plan.h"

namespace lathe {
namespace {

using nlohmann::json;

json linear_json(const LinearPlan& linear) {
  json row = {{"name", linear.linear->name},
              {"role", name_of(linear.linear->role)},
              {"shape", {linear.linear->out, linear.linear->in}}};
  if (linear.quantized) {
    row["rule"] = linear.rule;
    row["scheme"] = linear.describe();
  } else {
    row["kept"] = linear.reason;
  }
  return row;
}

json linears_json(const Plan& plan) {
  json rows = json::array();
  for (const LinearPlan* linear : plan.linears()) rows.push_back(linear_json(*linear));
  return rows;
}

/// Names of linears that engines stack into one weight, by stack.
json fused_json(const ModelGraph& graph) {
  json rows = json::array();
  for (size_t b = 0; b < graph.blocks.size() && graph.config.hidden_size > 0; ++b) {
    for (const auto& stack : fused_stacks(graph.blocks[b])) {
      rows.push_back({{"block", b}, {"linears", json::array()}});
      for (const Linear* linear : stack) rows.back()["linears"].push_back(linear->name);
    }
  }
  return rows;
}

json folds_json(const ModelGraph& graph) {
  json rows = json::array();
  for (size_t b = 0; b < graph.blocks.size(); ++b) {
    const Block& block = graph.blocks[b];
    for (const ScaleEdge& edge : block.edges) {
      json row = {{"block", b},
                  {"producer", edge.producer},
                  {"consumers", json::array()},
                  {"closed", edge.closed.empty() ? json() : json(edge.closed)}};
      for (const Linear* linear : block.consumers(edge)) row["consumers"].push_back(linear->name);
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

/// Matrices of the file with their types; of a stack of experts each one. "linear": null outside the blocks.
json gguf_tensors_json(const GgufOutput& output) {
  json rows = json::array();
  for (const GgufOutputTensor& tensor : output.tensors) {
    const GgufTensorRule& rule = tensor.rule;
    if (!rule.is_matrix()) continue;
    rows.push_back({{"name", rule.gguf},
                    {"weight", rule.hf},
                    {"linear", rule.linear.empty() ? json() : json(rule.linear)},
                    {"shape", rule.shape},
                    {"type", traits(tensor.type).name},
                    {"codes", tensor.exact}});
    if (!tensor.wanted) continue;
    rows.back()["wanted"] = traits(*tensor.wanted).name;
    rows.back()["why"] = why_other_type(tensor);
  }
  return rows;
}

json outputs_json(const Plan& plan, const ModelGraph& graph) {
  json rows = json::array();
  for (const OutputPlan& output : plan.outputs) {
    rows.push_back({{"format", output.target->name},
                    {"folder", output.subfolder},
                    {"bytes", output.bytes},
                    {"bytes_are_least", output.open_tensors},
                    {"bits_per_weight", plan.bits_per_weight(output)},
                    {"consumers", consumer_lines(plan, output, graph)}});
    if (output.gguf) rows.back()["tensors"] = gguf_tensors_json(*output.gguf);
  }
  return rows;
}

}  // namespace

json plan_json(const Plan& plan, const Recipe& recipe, const ModelGraph& graph) {
  json rules = json::array(), transforms = json::array(), layouts = json::array();
  for (const Rule& rule : recipe.rules)
    rules.push_back({{"targets", rule.targets}, {"solver", rule.solver.name}});
  for (const AlgorithmChoice& transform : recipe.transforms) transforms.push_back(transform.name);
  for (const LayoutPlan& layout : plan.layouts)
    layouts.push_back({{"name", layout.layout->name}, {"bytes", layout.bytes}});
  return {{"model",
           {{"path", recipe.model.string()},
            {"family", graph.config.model_type},
            {"blocks", graph.blocks.size()},
            {"bytes", plan.input_bytes}}},
          {"rules", std::move(rules)},
          {"transforms", std::move(transforms)},
          {"linears", linears_json(plan)},
          {"fused", fused_json(graph)},
          {"folds", folds_json(graph)},
          {"outputs", outputs_json(plan, graph)},
          {"layouts", std::move(layouts)}};
}

}  // namespace lathe
