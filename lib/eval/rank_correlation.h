// Does one measure put things in the same order as another?
#pragma once

#include <optional>
#include <span>

namespace lathe {

/// Spearman's rho of pairs (a[i], b[i]): Pearson's correlation of their ranks, equal values sharing the mean
/// of theirs (Spearman, 1904; Kendall and Gibbons, "Rank Correlation Methods", ch. 3). Nothing for fewer than
/// two pairs or where all values of one side are equal. Values are finite.
std::optional<double> spearman(std::span<const double> a, std::span<const double> b);

}  // namespace lathe
