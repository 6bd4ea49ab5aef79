#include "recipes/parallel_degrees.h"

#include <fmt/format.h>

#include <algorithm>

namespace lathe {
namespace {

/// Why inputs of a linear can't be cut into so many parts.
std::optional<std::string> cut_problem(const ServedModel::Matrix& linear, int degree, int64_t group) {
  const std::string share =
      fmt::format("{} inputs of a linear{} / {}", linear.in, linear.expert ? " in experts" : "", degree);
  if (linear.in % degree != 0) return share;
  // (One whose row isn't whole groups stays in 16 bits.)
  if (group == -1 || linear.in % group != 0 || linear.in / degree % group == 0) return std::nullopt;
  return fmt::format("{}, no multiple of the group size {}", share, group);
}

}  // namespace

std::optional<std::string> parallel_problem(const ServedModel& model, int degree, int64_t group) {
  if (model.heads == 0) {
    if ((degree & (degree - 1)) == 0) return std::nullopt;
    return fmt::format("an unknown number of heads / {}", degree);
  }
  if (model.heads % degree != 0) return fmt::format("{} heads / {}", model.heads, degree);
  if (!model.latent && model.kv_heads > 0 && model.kv_heads % degree != 0 && degree % model.kv_heads != 0)
    return fmt::format("{} KV heads / {}", model.kv_heads, degree);
  bool known = false;  // where linears are cut?
  for (const ServedModel::Matrix& linear : model.linears) {
    if (!linear.cut_input) continue;
    known = true;
    const bool cut = linear.in % degree == 0 && (group == -1 || linear.in / degree % group == 0);
    if (cut) continue;
    if (auto problem = cut_problem(linear, degree, group)) return problem;
  }
  if (!known && model.intermediate % degree != 0)
    return fmt::format("an intermediate size of {} / {}", model.intermediate, degree);
  return std::nullopt;
}

std::vector<int> parallel_degrees(const ServedModel& model, int64_t group) {
  std::vector<int> degrees;
  for (int degree = 1; degree <= kMostGpus; ++degree)
    if (!parallel_problem(model, degree, group)) degrees.push_back(degree);
  return degrees;
}

int64_t cache_copies(const ServedModel& model, int degree) {
  if (model.latent) return degree;
  return model.kv_heads == 0 ? 1 : std::max<int64_t>(1, degree / model.kv_heads);
}

}  // namespace lathe
