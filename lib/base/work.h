// How much arithmetic a computation takes, by what it consists of: counted from shapes alone, before anything
// is computed.
#pragma once

namespace lathe {

/// FLOPs of rounding one weight to a grid and back, and of adding up its error: a division, an addition, a
/// rounding, two bounds, a subtraction, a product; a difference, a square and a sum.
inline constexpr double kRoundingFlops = 10;

/// Parts add up. Counts are doubles: those of large models exceed 2^63.
struct Work {
  double products = 0;   // FLOPs of matrix products, two for each multiplication with its addition
  double factors = 0;    // FLOPs of factorising and inverting Hessians
  double roundings = 0;  // weights rounded, each as often as it is

  double flops() const { return products + factors + kRoundingFlops * roundings; }
  Work& operator+=(const Work& other) {
    products += other.products;
    factors += other.factors;
    roundings += other.roundings;
    return *this;
  }
  bool operator==(const Work&) const = default;
};

inline Work operator+(Work a, const Work& b) { return a += b; }

}  // namespace lathe
