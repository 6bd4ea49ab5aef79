#include "formats/targets/group_rules.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace lathe {
namespace {

/// Consumers know the gates of a mixture of experts as plain linears (GPTQModel's module trees, vLLM's
/// ReplicatedLinear without a quantisation config).
std::optional<std::string> refuses_role(LinearRole role) {
  if (role != LinearRole::router && role != LinearRole::shared_expert_gate) return std::nullopt;
  return fmt::format("no consumer reads a quantised {}; add '{}' to `ignore`", name_of(role), name_of(role));
}

std::optional<std::string> refuses_scheme(const Scheme& scheme, const std::string& format) {
  if (scheme.scale_grid) {
    return "scales that are codes themselves (scale_bits) and outliers can't be stored: use output format "
           "spqr";
  }
  if (scheme.type != "int")
    return fmt::format("scheme type '{}' can't be stored: {} holds int only", scheme.type, format);
  if (scheme.real_zero) return "real zero points can't be stored: use `zero_point: integer`, or format hqq";
  if (scheme.axis != 1)
    return fmt::format("axis {} can't be stored: use `axis: 1`, or format hqq", scheme.axis);
  return std::nullopt;
}

}  // namespace

std::optional<std::string> refuses_plain_groups(const PlannedLinear& linear, const std::string& format) {
  const Scheme& scheme = linear.scheme;
  if (const auto reason = refuses_scheme(scheme, format)) return reason;
  if (const auto reason = refuses_role(linear.role)) return reason;
  if (linear.activations) {
    return fmt::format(
        "quantised activations can't be stored: {} holds weights only; use output format "
        "compressed-tensors",
        format);
  }
  if (linear.out < 1 || linear.in < 1) return fmt::format("shape [{}, {}] is empty", linear.out, linear.in);
  if (const auto reason = scheme.problem(linear.in)) return reason;
  if (linear.scale_dtype != DType::F16 && linear.scale_dtype != DType::BF16) {
    return fmt::format("scales of type {} can't be stored: expected F16 or BF16",
                       name_of(linear.scale_dtype));
  }
  return std::nullopt;
}

std::optional<std::string> refuses_group_size(const PlannedLinear& linear,
                                              std::initializer_list<int64_t> sizes, const char* reader) {
  const int64_t size = linear.scheme.group_size;
  if (size == -1 || std::ranges::find(sizes, size) != sizes.end()) return std::nullopt;
  return fmt::format("group_size {} can't be loaded: {} {} only, or -1 for one group a row", size, reader,
                     fmt::join(sizes, ", "));
}

}  // namespace lathe
