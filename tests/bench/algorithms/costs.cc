#include "tests/bench/algorithms/costs.h"

namespace lathe::bench {

std::optional<double> operations_of(const std::string& algorithm, int64_t out, int64_t in, int64_t tokens) {
  const auto r = static_cast<double>(out), n = static_cast<double>(in);
  // Cholesky and a triangular inverse, n^3 / 3 each; each column updates those after it: r n^2 / 2 FMAs.
  if (algorithm == "gptq") return 2.0 / 3 * n * n * n + r * n * n;
  // Half of X^T X by symmetry.
  if (algorithm == "gram") return static_cast<double>(tokens) * n * n;
  // 21 candidates, each half of a product of r n^2 FMAs (algorithms/awq.cc); clipping is left out.
  if (algorithm == "awq") return 21 * r * n * n;
  return std::nullopt;
}

}  // namespace lathe::bench
