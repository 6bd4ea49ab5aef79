#include "formats/consumers/consumers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>

#include "formats/consumers/tensor_parallel.h"

namespace lathe {
namespace {

constexpr int kDegrees[] = {1, 2, 4, 8};

template <class Values, class Value>
bool among(const Values& values, const Value& value) {
  return std::ranges::find(values, value) != values.end();
}

/// As kernels know schemes: rotated inputs are another module's.
std::string described(const PlannedLinear& linear) {
  Scheme grid = linear.scheme;
  grid.hadamard = 0;
  return with_input(grid.describe(), linear.activations);
}

/// Linears that one kernel has to take.
struct Kind {
  std::string scheme;
  int64_t rotation = 0;  // Scheme::hadamard
  bool experts = false;
  std::vector<PlannedLinear> linears;

  /// Without a look at words: is it the first one's scheme, to the last field?
  bool same_as_first(const PlannedLinear& linear) const {
    return experts == linear.expert && first().scheme == linear.scheme &&
           first().activations == linear.activations;
  }

  const PlannedLinear& first() const { return linears.front(); }
  std::string label() const {
    return with_input(first().scheme.describe(), first().activations) + (experts ? ", experts" : "");
  }
};

std::vector<Kind> kinds_of(const std::vector<PlannedLinear>& linears) {
  std::vector<Kind> kinds;
  for (const PlannedLinear& linear : linears) {
    const auto same = std::ranges::find_if(kinds, [&](const Kind& k) { return k.same_as_first(linear); });
    if (same != kinds.end()) {
      same->linears.push_back(linear);
      continue;
    }
    const std::string scheme = described(linear);
    auto kind = std::ranges::find_if(kinds, [&](const Kind& k) {
      return k.scheme == scheme && k.experts == linear.expert && k.rotation == linear.scheme.hadamard;
    });
    if (kind == kinds.end()) kind = kinds.insert(kind, {scheme, linear.scheme.hadamard, linear.expert, {}});
    kind->linears.push_back(linear);
  }
  return kinds;
}

/// Has the rule anything to say about these linears? Those of integers and of floating-point grids keep to
/// their own, and those with quantised inputs to the kinds of inputs that they name.
bool concerns(const KernelRule& rule, const std::string& method, const Kind& kind) {
  if (!among(rule.methods, method) || rule.experts != kind.experts) return false;
  if (!rule.schemes.empty()) return among(rule.schemes, kind.scheme);
  if (kind.first().scheme.float_grid() != nullptr) return false;
  const auto& activations = kind.first().activations;
  return activations ? among(rule.inputs, activations->describe()) : rule.inputs.empty();
}

/// Why the kernel takes no linear of this kind at all.
std::optional<std::string> scheme_problem(const KernelRule& rule, const Kind& kind) {
  const PlannedLinear& linear = kind.first();
  const Scheme& scheme = linear.scheme;
  if (!rule.schemes.empty()) return std::nullopt;
  const bool plain = scheme.type == "int" && scheme.axis == 1 && !scheme.real_zero && !scheme.scale_grid;
  if (!plain || !among(scheme.symmetric ? rule.symmetric_bits : rule.asymmetric_bits, scheme.bits))
    return fmt::format("{}: {} has no kernel for {}", linear.name, rule.kernel, kind.scheme);
  if (!among(rule.group_sizes, scheme.group_size)) {
    return fmt::format("{}: {} takes group_size {}, not {}", linear.name, rule.kernel,
                       fmt::join(rule.group_sizes, ", "), scheme.group_size);
  }
  for (const PlannedLinear& each : kind.linears)
    if (each.group_index && !rule.group_index)
      return fmt::format("{}: {} takes no activation order", each.name, rule.kernel);
  return std::nullopt;
}

ConsumerVerdict judge(const KernelRule& rule, const std::string& method, const Kind& kind,
                      const HeadCounts& heads, const std::string& half_fused) {
  ConsumerVerdict verdict{rule.consumer, rule.kernel, "", {}, "", rule.source};
  if (rule.parallel && !half_fused.empty()) {
    verdict.problem = half_fused;
    return verdict;
  }
  for (const int degree : kDegrees) {
    if (const auto problem = degree_problem(rule, method, kind.linears, degree, heads)) {
      if (verdict.problem.empty()) verdict.problem = fmt::format("TP {} fails: {}", degree, *problem);
    } else {
      verdict.tensor_parallel.push_back(degree);
    }
  }
  return verdict;
}

/// Servers that have rules, the methods that they read, and where they say which schemes of them.
struct Server {
  const char *consumer, *method, *source;
  bool all = true;  // do its rules know all schemes that it reads?
};
constexpr Server kServers[] = {
    {"TensorRT-LLM", "modelopt", "TensorRT-LLM: _torch/modules/linear.py", false},
    {"TensorRT-LLM", "compressed-tensors",
     "TensorRT-LLM (2026): models/quant_config_utils.py, _quant_config_from_config_group"},
    {"GPTQModel", "awq-gemv", "gptqmodel 7.7: nn_modules/qlinear/gemv_awq.py (SUPPORTS_...)"},
    {"GPTQModel", "awq", "gptqmodel 7.7: nn_modules/qlinear/torch_awq.py (SUPPORTS_...)"},
    {"vLLM", "modelopt", "vllm 0.32: quantization/modelopt.py, LINEAR_ALGOS"},
    {"vLLM", "fp8", "vllm 0.32: quantization/fp8.py"},
    {"vLLM", "gptq", "vllm 0.32: auto_gptq.py, TYPE_MAP"},
    {"vLLM", "awq", "vllm 0.32: auto_awq.py, TYPE_MAP"},
    {"vLLM", "compressed-tensors", "vllm 0.32: compressed_tensors.py, _get_scheme_from_parts"},
    {"SGLang", "modelopt", "sglang 0.5.23: srt/layers/quantization/modelopt_quant.py"},
    {"SGLang", "gptq", "sglang 0.5.23: srt/layers/quantization/gptq/gptq.py, TYPE_MAP"},
    {"SGLang", "awq", "sglang 0.5.23: srt/layers/quantization/awq/awq.py"},
    {"SGLang", "compressed-tensors",
     "sglang 0.5.23: srt/layers/quantization/compressed_tensors.py, _get_scheme_from_parts"}};

/// "vLLM", "vLLM on Hopper", "vLLM with humming": of vLLM.
bool is_of(const std::string& consumer, const Server& server) {
  const std::string name = server.consumer;
  return consumer == name || consumer.starts_with(name + " on ") || consumer.starts_with(name + " with ");
}

/// The method is read, but not what stands in it; `why`: what a kernel of its doesn't take.
ConsumerVerdict no_kernel(const Server& server, const Kind& kind, const std::string& why) {
  const std::string none = fmt::format("{}: no kernel for {}{}", kind.first().name, kind.scheme,
                                       kind.experts ? " in experts" : "");
  return {server.consumer, "", "", {}, why.empty() ? none : why, server.source};
}

std::vector<ConsumerVerdict> judge_kind(const std::string& method, const Kind& kind, const HeadCounts& heads,
                                        const std::string& half_fused) {
  std::vector<ConsumerVerdict> verdicts;
  std::map<std::string, std::string> unfit;  // consumer: why its first kernel of another kind isn't for these
  for (const KernelRule& rule : kernel_rules()) {
    if (!concerns(rule, method, kind)) continue;
    if (const auto problem = scheme_problem(rule, kind)) {
      unfit.emplace(rule.consumer, *problem);
    } else {
      verdicts.push_back(judge(rule, method, kind, heads, half_fused));
    }
  }
  for (const Server& server : kServers) {
    const bool ruled = std::ranges::any_of(
        verdicts, [&](const ConsumerVerdict& verdict) { return is_of(verdict.consumer, server); });
    std::string why = unfit[server.consumer];
    for (const auto& [consumer, reason] :
         unfit)  // of its kernels for some machines alone, where it has no other
      if (why.empty() && is_of(consumer, server)) why = reason;
    if (!ruled && method == server.method && (server.all || !why.empty()))
      verdicts.push_back(no_kernel(server, kind, why));
  }
  return verdicts;
}

constexpr const char* kVllmRotations = "vllm 0.32: compressed_tensors/transform/linear.py and module.py";

/// What is left of a verdict where inputs are rotated, which vLLM alone does: of linears without bias, on one
/// GPU. Others read past transform_config.
ConsumerVerdict with_rotation(ConsumerVerdict verdict, const Kind& kind) {
  if (verdict.kernel.empty()) return verdict;
  const auto refuse = [&](std::string problem) {
    verdict.kernel.clear();
    verdict.tensor_parallel.clear();
    verdict.problem = std::move(problem);
  };
  const std::string& who = verdict.consumer;
  if (who == "vLLM 0.11 and before") {
    refuse("the earlier of these read past transform_config, and would leave inputs as they are");
    return verdict;
  }
  if (who != "vLLM" && !who.starts_with("vLLM on ") && !who.starts_with("vLLM with ")) {
    refuse("it reads past transform_config, and would leave inputs as they are that have to be rotated");
    return verdict;
  }
  const auto biased = std::ranges::find_if(kind.linears, &PlannedLinear::bias);
  if (biased != kind.linears.end()) {
    refuse(fmt::format("{}: no bias where inputs are rotated", biased->name));
  } else if (!among(verdict.tensor_parallel, 1)) {
    return verdict;
  } else if (verdict.tensor_parallel.size() > 1) {
    verdict.tensor_parallel = {1};
    verdict.problem = "TP 2 fails: no tensor parallelism where inputs are rotated";
  }
  verdict.source = kVllmRotations;
  return verdict;
}

/// Who reads a quantised lm_head: seen in vLLM's CPU build, transformers (compressed-tensors) and GPTQModel.
ConsumerVerdict with_head(ConsumerVerdict verdict, const std::string& method) {
  const std::string& who = verdict.consumer;
  if (verdict.kernel.empty() || who.starts_with("vLLM") || who == "GPTQModel") return verdict;
  if (who == "transformers" && method == "compressed-tensors") return verdict;
  verdict.problem = who == "transformers"
                        ? "it looks for quantised linears in blocks alone, and lm_head is one"
                        : "a quantised lm_head is not known to be read by it";
  verdict.kernel.clear();
  verdict.tensor_parallel.clear();
  return verdict;
}

/// `format`: as the plan calls it; the reader's method is its quant_method.
ConsumerVerdict read_by(const Reader& reader, const std::string& format, const std::vector<Kind>& kinds) {
  ConsumerVerdict verdict{reader.consumer, reader.through == nullptr ? "" : reader.through, "", {}, "",
                          reader.source};
  const auto refuse = [&](const char* reason) {
    verdict.kernel.clear();
    verdict.problem = reason;
  };
  const auto with_zeros = [](const Kind& kind) { return !kind.first().scheme.symmetric; };
  const auto byte_experts = [](const Kind& kind) {
    const auto& inputs = kind.first().activations;
    return kind.experts && kind.first().scheme.type == "int" && inputs && inputs->float_grid() == nullptr;
  };
  if (reader.no_byte_experts != nullptr && std::ranges::any_of(kinds, byte_experts))
    refuse(reader.no_byte_experts);
  if (reader.no_experts != nullptr && std::ranges::any_of(kinds, &Kind::experts)) refuse(reader.no_experts);
  if (reader.no_zero_points != nullptr && format == reader.method && std::ranges::any_of(kinds, with_zeros))
    refuse(reader.no_zero_points);
  return verdict;
}

}  // namespace

std::string ConsumerVerdict::describe() const {
  const std::string who = linears.empty() ? consumer : fmt::format("{} ({})", consumer, linears);
  if (kernel.empty() && problem.empty()) return fmt::format("{}: does not read it ({})", who, source);
  if (kernel.empty()) return fmt::format("{}: does not read it: {} ({})", who, problem, source);
  if (tensor_parallel.empty() && !problem.empty())
    return fmt::format("{}: not with {}: {} ({})", who, kernel, problem, source);
  if (tensor_parallel.empty()) return fmt::format("{}: reads it through {} ({})", who, kernel, source);
  return fmt::format("{}: {}, ok for TP {}{}{} ({})", who, kernel, fmt::join(tensor_parallel, ", "),
                     problem.empty() ? "" : "; ", problem, source);
}

std::vector<ConsumerVerdict> judge_consumers(const std::string& format,
                                             const std::vector<PlannedLinear>& linears,
                                             const HeadCounts& heads, const std::string& half_fused) {
  const std::string method = format == "gptq-v2" ? "gptq" : format;
  std::vector<ConsumerVerdict> verdicts;
  const std::vector<Kind> kinds = kinds_of(linears);
  const bool head = std::ranges::find(linears, LinearRole::lm_head, &PlannedLinear::role) != linears.end();
  for (const Kind& kind : kinds) {
    for (ConsumerVerdict& verdict : judge_kind(method, kind, heads, half_fused)) {
      if (head) verdict = with_head(std::move(verdict), method);
      if (kind.rotation > 0) verdict = with_rotation(std::move(verdict), kind);
      if (kinds.size() > 1) verdict.linears = kind.label();
      verdicts.push_back(std::move(verdict));
    }
  }
  if (kinds.empty()) return verdicts;
  for (const Reader& reader : readers()) {
    const bool ruled = std::ranges::any_of(
        verdicts, [&](const ConsumerVerdict& verdict) { return verdict.consumer == reader.consumer; });
    if (method != reader.method || ruled) continue;
    ConsumerVerdict verdict = read_by(reader, format, kinds);
    if (head) verdict = with_head(std::move(verdict), method);
    const auto rotated = std::ranges::find_if(kinds, [](const Kind& kind) { return kind.rotation > 0; });
    verdicts.push_back(rotated == kinds.end() ? verdict : with_rotation(std::move(verdict), *rotated));
  }
  return verdicts;
}

}  // namespace lathe
