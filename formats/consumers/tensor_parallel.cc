#include "formats/consumers/tensor_parallel.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "lib/base/checked.h"

namespace lathe {
namespace {

/// How a linear is cut between GPUs (Megatron's scheme, as all servers here do it).
enum class Split { columns, rows, none };
Split split_of(LinearRole role) {
  switch (role) {
    case LinearRole::q_proj:
    case LinearRole::k_proj:
    case LinearRole::v_proj:
    case LinearRole::qkv_proj:
    case LinearRole::gate_up_proj:
    case LinearRole::gate_proj:
    case LinearRole::up_proj:
    case LinearRole::lm_head:
      return Split::columns;
    case LinearRole::o_proj:
    case LinearRole::down_proj:
      return Split::rows;
    default:
      return Split::none;
  }
}

/// The head's rows are padded (vllm 0.32: vocab_parallel_embedding.py, DEFAULT_VOCAB_PADDING_SIZE).
int64_t all_out(const PlannedLinear& linear) {
  constexpr int64_t kVocabularyPadding = 64;
  return linear.role == LinearRole::lm_head ? kVocabularyPadding * ceil_div(linear.out, kVocabularyPadding)
                                            : linear.out;
}

/// Output features of one GPU: heads of keys and values are repeated where there are fewer than GPUs.
int64_t part_out(const PlannedLinear& linear, int degree, const HeadCounts& heads) {
  const bool key_or_value = linear.role == LinearRole::k_proj || linear.role == LinearRole::v_proj;
  if (key_or_value && heads.kv_heads > 0 && heads.kv_heads < degree) return heads.head_dim;
  return all_out(linear) / degree;
}

/// Linears that servers stack into one: q/k/v, gate/up.
std::string fused_name(const KernelRule& rule, const PlannedLinear& linear) {
  if (!rule.parallel || linear.role == LinearRole::lm_head) return linear.name;
  const std::string module = linear.name.substr(0, linear.name.rfind('.'));
  return split_of(linear.role) == Split::columns ? module + " (fused)" : linear.name;
}

std::string not_multiple(const std::string& name, int64_t size, int degree, int64_t multiple,
                         const char* what) {
  const std::string share = degree == 1 ? fmt::format("{}", size) : fmt::format("{} / {}", size, degree);
  return fmt::format("{}: {} is not a multiple of {} ({})", name, share, multiple, what);
}

/// Scales of blocks of rows are cut with the rows: every part of a stack ends with a whole block, but for the
/// last one of a stack that isn't cut.
std::optional<std::string> part_problem(const KernelRule& rule, const PlannedLinear& linear, int degree,
                                        const HeadCounts& heads) {
  if (rule.part_multiple == 1 || split_of(linear.role) != Split::columns) return std::nullopt;
  const bool last = linear.role != LinearRole::q_proj && linear.role != LinearRole::k_proj &&
                    linear.role != LinearRole::gate_proj;
  if (degree == 1 && last && !linear.expert) return std::nullopt;
  if (part_out(linear, degree, heads) % rule.part_multiple == 0) return std::nullopt;
  return not_multiple(linear.name, linear.out, degree, rule.part_multiple, "output features");
}

/// Words of 32 bits hold several codes along a row or, as zero points, along a column: loaders cut between
/// words only (vllm 0.32: model_executor/parameter.py, packed_factor). Bytes of modelopt's INT4 hold two
/// rows.
std::optional<std::string> word_problem(const std::string& method, const PlannedLinear& linear, int degree,
                                        const HeadCounts& heads) {
  const Scheme& scheme = linear.scheme;
  const bool bytes = scheme.bits == 8 && linear.activations;
  if (scheme.float_grid() != nullptr || bytes || degree == 1) return std::nullopt;
  const int64_t codes = method == "modelopt" ? 2 : 32 / std::gcd(32, scheme.bits);
  const bool along_rows = method == "compressed-tensors" || method == "gptq";
  const bool along_columns = method != "compressed-tensors" || !scheme.symmetric;
  const Split split = split_of(linear.role);
  if (split == Split::rows && method == "awq" && scheme.group_size == -1) {
    return fmt::format("{}: its one group a row is not cut (vllm 0.32: auto_awq.py, num_groups)",
                       linear.name);
  }
  if (split == Split::rows && along_rows && linear.in / degree % codes != 0)
    return not_multiple(linear.name, linear.in, degree, codes, "codes in a word");
  if (split == Split::columns && along_columns && part_out(linear, degree, heads) % codes != 0)
    return not_multiple(linear.name, linear.out, degree, codes, "codes in a word");
  return std::nullopt;
}

}  // namespace

std::optional<std::string> degree_problem(const KernelRule& rule, const std::string& method,
                                          const std::vector<PlannedLinear>& linears, int degree,
                                          const HeadCounts& heads) {
  if (degree > 1 && !rule.parallel) return fmt::format("{} runs on one GPU", rule.consumer);
  if (heads.heads % degree != 0) return fmt::format("{} heads / {}", heads.heads, degree);
  if (heads.kv_heads % degree != 0 && degree % std::max<int64_t>(1, heads.kv_heads) != 0)
    return fmt::format("{} key-value heads / {}", heads.kv_heads, degree);
  std::map<std::string, std::pair<int64_t, int64_t>> stacked;  // output features: of one GPU, of all
  for (const PlannedLinear& linear : linears) {
    const Split split = split_of(linear.role);
    const int64_t parts_in = split == Split::rows ? degree : 1, group = linear.scheme.group_size;
    if (linear.in % (parts_in * rule.in_multiple) != 0)
      return not_multiple(linear.name, linear.in, parts_in, rule.in_multiple, "input features");
    if (group != -1 && group < linear.in && linear.in % (parts_in * group) != 0)
      return not_multiple(linear.name, linear.in, parts_in, group, "group_size");
    if (split == Split::columns && all_out(linear) % degree != 0 &&
        part_out(linear, degree, heads) != heads.head_dim)
      return not_multiple(linear.name, linear.out, degree, 1, "output features");
    if (auto problem = part_problem(rule, linear, degree, heads)) return problem;
    if (auto problem = word_problem(method, linear, degree, heads)) return problem;
    auto& [part, all] = stacked[fused_name(rule, linear)];
    part += split == Split::columns ? part_out(linear, degree, heads) : linear.out;
    all += all_out(linear);
  }
  for (const auto& [name, sizes] : stacked) {
    if (sizes.first % rule.out_multiple != 0)
      return not_multiple(name, sizes.second, sizes.first == sizes.second ? 1 : degree, rule.out_multiple,
                          "output features");
  }
  return std::nullopt;
}

}  // namespace lathe
