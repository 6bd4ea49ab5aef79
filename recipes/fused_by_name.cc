#include "recipes/fused_by_name.h"

#include <fmt/format.h>

#include <map>
#include <regex>

#include "lib/base/error.h"

namespace lathe {
namespace {

/// What the linear becomes a part of; empty: it stays by itself.
std::string stack_of(const Linear& linear) {
  static const std::regex kExpert("(.*[.]experts)[.][0-9]+");
  const std::string module = linear.name.substr(0, linear.name.rfind('.'));
  std::smatch expert;
  const bool inside = std::regex_match(module, expert, kExpert);
  const std::string place = inside ? expert.str(1) : module;
  const std::string last = linear.name.substr(linear.name.rfind('.') + 1);
  if (last == "w1" || last == "w3") return place + " gate/up";  // Mixtral's names
  if (last == "w2") return inside ? place + " down" : "";
  if (last == "q_a_proj" || last == "kv_a_proj_with_mqa") return place + " q_a/kv_a";  // DeepSeek's
  switch (linear.role) {
    case LinearRole::q_proj:
    case LinearRole::k_proj:
    case LinearRole::v_proj:
      return place + " q/k/v";
    case LinearRole::gate_proj:
    case LinearRole::up_proj:
      return place + " gate/up";
    case LinearRole::down_proj:
      return inside ? place + " down" : "";
    default:
      return "";
  }
}

std::string text_of(const LinearPlan& plan) {
  return plan.quantized ? plan.describe() : std::string("floating point");
}

}  // namespace

void check_fused_by_name(const Plan& plan) {
  std::map<std::string, const LinearPlan*> first;
  for (const auto& block : plan.blocks) {
    for (const LinearPlan& linear : block) {
      const std::string stack = stack_of(*linear.linear);
      if (stack.empty()) continue;
      const auto [entry, inserted] = first.emplace(stack, &linear);
      if (inserted) continue;
      const LinearPlan& other = *entry->second;
      if (!other.same_scheme(linear)) {
        user_error(
            "'{}' would be {} but '{}' {}; by their names they are fused by vLLM and SGLang and need one "
            "scheme",
            other.linear->name, text_of(other), linear.linear->name, text_of(linear));
      }
      if (linear.quantized && (linear.scheme.per_tensor() || linear.scheme.has_global_scale())) {
        user_error(
            "'{}' and '{}' would be {} with a scale of the tensor each; by their names they are fused by "
            "vLLM and SGLang, which take one scale for both, and Lathe doesn't know this family to find it; "
            "use groups or channels (fp8_e4m3 per channel, mxfp4, int)",
            other.linear->name, linear.linear->name, linear.describe());
      }
    }
  }
}

}  // namespace lathe
