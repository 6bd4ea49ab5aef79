#include "lib/numeric/sampled_rows.h"

#include <algorithm>

namespace lathe {
namespace {

constexpr int64_t kRuns = 8;

}  // namespace

std::vector<std::pair<int64_t, int64_t>> sampled_rows(int64_t out, int64_t in, int64_t values) {
  const int64_t wanted = std::clamp<int64_t>(values / std::max<int64_t>(in, 1), 1, out);
  const int64_t runs = wanted == out ? 1 : std::min(kRuns, wanted), rows = wanted / runs;
  std::vector<std::pair<int64_t, int64_t>> sampled;
  for (int64_t run = 0; run < runs; ++run) {
    const int64_t first = runs == 1 ? 0 : run * (out - rows) / (runs - 1);
    sampled.emplace_back(first, first + rows);
  }
  return sampled;
}

}  // namespace lathe
