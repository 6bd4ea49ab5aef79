#include "recipes/fused_by_name.h"

#include <fmt/format.h>

#include <map>
#include <regex>

#include "lib/base/error.h"

namespace lathe {
namespace {

std::string last_name(const Linear& linear) { return linear.name.substr(linear.name.rfind('.') + 1); }
std::string module_of(const Linear& linear) { return linear.name.substr(0, linear.name.rfind('.')); }

/// What linears of one module become together; empty: the linear stays by itself.
std::string part_of(const Linear& linear) {
  const std::string last = last_name(linear);
  if (last == "w1" || last == "w3") return "gate/up";                         // Mixtral's names
  if (last == "q_a_proj" || last == "kv_a_proj_with_mqa") return "q_a/kv_a";  // DeepSeek's
  switch (linear.role) {
    case LinearRole::q_proj:
    case LinearRole::k_proj:
    case LinearRole::v_proj:
      return "q/k/v";
    case LinearRole::gate_proj:
    case LinearRole::up_proj:
      return "gate/up";
    default:
      return "";
  }
}

/// What the linear becomes a part of, with all experts of its layer; empty: it stays by itself.
std::string stack_of(const Linear& linear) {
  static const std::regex kExpert("(.*[.]experts)[.][0-9]+");
  const std::string module = module_of(linear), part = part_of(linear);
  std::smatch expert;
  const bool inside = std::regex_match(module, expert, kExpert);
  const bool down = linear.role == LinearRole::down_proj || last_name(linear) == "w2";
  if (inside && down) return expert.str(1) + " down";
  if (part.empty()) return "";
  return fmt::format("{} {}", inside ? expert.str(1) : module, part);
}

bool has_tensor_scale(const LinearPlan& plan) {
  return plan.quantized && (plan.scheme.per_tensor() || plan.scheme.has_global_scale());
}

std::string text_of(const LinearPlan& plan) {
  return plan.quantized ? plan.describe() : std::string("floating point");
}

}  // namespace

std::string sharing_by_name(const Linear& linear) {
  const std::string part = part_of(linear);
  return part.empty() ? "" : fmt::format("{} {} of {}", module_of(linear), part, linear.in);
}

void check_fused_by_name(const Plan& plan) {
  std::map<std::string, const LinearPlan*> stacks, sharing;
  for (const auto& block : plan.blocks) {
    for (const LinearPlan& linear : block) {
      const std::string stack = stack_of(*linear.linear);
      if (stack.empty()) continue;
      const LinearPlan& other = *stacks.emplace(stack, &linear).first->second;
      if (!other.same_scheme(linear)) {
        user_error(
            "'{}' would be {} but '{}' {}; by their names they are fused by vLLM and SGLang and need one "
            "scheme",
            other.linear->name, text_of(other), linear.linear->name, text_of(linear));
      }
      const std::string shared = has_tensor_scale(linear) ? sharing_by_name(*linear.linear) : "";
      if (shared.empty()) continue;
      const LinearPlan& first = *sharing.emplace(shared, &linear).first->second;
      if (first.rule != linear.rule) {
        user_error(
            "'{}' and '{}' are quantised by two rules; by their names they are fused by vLLM and SGLang and "
            "share the scale of the tensor under {}, so one rule has to quantise them",
            first.linear->name, linear.linear->name, linear.describe());
      }
    }
  }
}

}  // namespace lathe
