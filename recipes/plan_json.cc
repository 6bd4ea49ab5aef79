// The plan for programs.
#include <fmt/format.h>

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
  for (const auto& block : plan.blocks)
    for (const LinearPlan& linear : block) rows.push_back(linear_json(linear));
  if (plan.lm_head.linear != nullptr) rows.push_back(linear_json(plan.lm_head));
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
          {"outputs", outputs_json(plan, graph)},
          {"layouts", std::move(layouts)}};
}

}  // namespace lathe
