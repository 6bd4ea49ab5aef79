#include "recipes/parallel_degrees.h"

#include <fmt/format.h>

#include <algorithm>

namespace lathe {

std::optional<std::string> parallel_problem(const ServedModel& model, int degree) {
  if (model.heads == 0) {
    if ((degree & (degree - 1)) == 0) return std::nullopt;
    return fmt::format("an unknown number of heads / {}", degree);
  }
  if (model.heads % degree != 0) return fmt::format("{} heads / {}", model.heads, degree);
  if (!model.latent && model.kv_heads > 0 && model.kv_heads % degree != 0 && degree % model.kv_heads != 0)
    return fmt::format("{} KV heads / {}", model.kv_heads, degree);
  if (model.intermediate % degree != 0)
    return fmt::format("an intermediate size of {} / {}", model.intermediate, degree);
  return std::nullopt;
}

std::vector<int> parallel_degrees(const ServedModel& model) {
  std::vector<int> degrees;
  for (int degree = 1; degree <= kMostGpus; ++degree)
    if (!parallel_problem(model, degree)) degrees.push_back(degree);
  return degrees;
}

int64_t cache_copies(const ServedModel& model, int degree) {
  if (model.latent) return degree;
  return model.kv_heads == 0 ? 1 : std::max<int64_t>(1, degree / model.kv_heads);
}

}  // namespace lathe
