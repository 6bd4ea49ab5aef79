#include "lib/eval/rank_correlation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "lib/base/error.h"

namespace lathe {
namespace {

std::vector<double> ranks_of(std::span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t i) { return values[i]; });
  std::vector<double> ranks(values.size());
  for (size_t first = 0; first < order.size();) {
    size_t end = first + 1;
    while (end < order.size() && values[order[end]] == values[order[first]]) ++end;
    const double shared = static_cast<double>(first + end - 1) / 2;
    for (; first < end; ++first) ranks[order[first]] = shared;
  }
  return ranks;
}

}  // namespace

std::optional<double> spearman(std::span<const double> a, std::span<const double> b) {
  LATHE_ASSERT(a.size() == b.size(), "{} values against {}", a.size(), b.size());
  const std::vector<double> left = ranks_of(a), right = ranks_of(b);
  const double middle = (static_cast<double>(a.size()) - 1) / 2;
  double both = 0, left_square = 0, right_square = 0;
  for (size_t i = 0; i < left.size(); ++i) {
    const double x = left[i] - middle, y = right[i] - middle;
    both += x * y;
    left_square += x * x;
    right_square += y * y;
  }
  if (left_square == 0 || right_square == 0) return std::nullopt;
  return both / std::sqrt(left_square * right_square);
}

}  // namespace lathe
