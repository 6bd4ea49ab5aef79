// What solvers did in place of what they were asked for, because that could not be done. A run's record of it
// is the text of an event (SolveResult::events, report.json), which is written and recognised here.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace lathe {

enum class SolverFallback {
  damping,  // more damping than asked for: it trusts the calibration text less
  diagonal  // of the Hessian alone: rounding to nearest, no column makes up for another
};
/// "damping", "diagonal".
constexpr std::string_view name_of(SolverFallback fallback) {
  return fallback == SolverFallback::damping ? "damping" : "diagonal";
}

/// The events. `tried`: the dampings that failed, "0.01, 0.02"; in parts of the diagonal's mean.
std::string raised_damping(const std::string& tried, double damping);
std::string diagonal_only(const std::string& tried, double damping);

/// Which of them an event is; nothing for any other.
std::optional<SolverFallback> fallback_of(std::string_view event);

}  // namespace lathe
