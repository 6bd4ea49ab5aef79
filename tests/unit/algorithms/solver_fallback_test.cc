// What a solver fell back to is read back from the events that say so, and from no others.
#include "algorithms/solver_fallback.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "algorithms/inverse_factor.h"

namespace lathe {
namespace {

/// The fall-backs among a factor's events.
std::vector<SolverFallback> fallbacks_of(const at::Tensor& gram, double damping) {
  std::vector<SolverFallback> found;
  for (const std::string& event : damped_inverse_factor(gram, at::arange(gram.size(0)), damping).events) {
    if (const auto fallback = fallback_of(event)) found.push_back(*fallback);
  }
  return found;
}

TEST(SolverFallback, IsReadFromTheFactorsEvents) {
  const at::Tensor ones = at::ones({8, 8}, at::kFloat);  // of rank 1
  EXPECT_TRUE(fallbacks_of(at::eye(8), 0.01).empty());
  EXPECT_EQ(fallbacks_of(ones, 0), std::vector<SolverFallback>{SolverFallback::damping});
  at::Tensor indefinite = at::eye(8);
  indefinite[0][1] = indefinite[1][0] = 100;
  EXPECT_EQ(fallbacks_of(indefinite, 0), std::vector<SolverFallback>{SolverFallback::diagonal});
}

TEST(SolverFallback, OtherEventsAreNone) {
  for (const char* event :
       {"", "3 of 64 input channels carried no signal in the calibration data: their weights became 0",
        "the Hessian could not be factorised in FP32 with damping 0.01: factorised in FP64 with 0.01",
        "rounded anew: its codes don't go into the blocks: damping raised to nothing"}) {
    EXPECT_FALSE(fallback_of(event)) << event;
  }
  EXPECT_EQ(fallback_of(raised_damping("0.01", 0.02)), SolverFallback::damping);
  EXPECT_EQ(fallback_of(diagonal_only("0.01", 0.02)), SolverFallback::diagonal);
}

}  // namespace
}  // namespace lathe
