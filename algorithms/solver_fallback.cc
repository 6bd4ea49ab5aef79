#include "algorithms/solver_fallback.h"

#include <fmt/format.h>

namespace lathe {
namespace {

constexpr std::string_view kFailed = "the Hessian could not be factorised with damping ";
constexpr std::string_view kRaised = ": damping raised to ", kDiagonal = ": only its diagonal was used";

}  // namespace

std::string raised_damping(const std::string& tried, double damping) {
  return fmt::format("{}{}{}{:g}", kFailed, tried, kRaised, damping);
}

std::string diagonal_only(const std::string& tried, double damping) {
  return fmt::format(
      "{}{} in FP32, nor with {:g} in FP64{}, so that weights were rounded without making up for each "
      "other's "
      "errors",
      kFailed, tried, damping, kDiagonal);
}

std::optional<SolverFallback> fallback_of(std::string_view event) {
  if (!event.starts_with(kFailed)) return std::nullopt;
  if (event.find(kRaised) != event.npos) return SolverFallback::damping;
  if (event.find(kDiagonal) != event.npos) return SolverFallback::diagonal;
  return std::nullopt;
}

}  // namespace lathe
