// A scheme: on which numbers, and with how fine-grained scales, a weight matrix is represented.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "lib/tensor/dtype.h"

namespace lathe {

/// Uniform integer grid w ~ scale * (q - zero), q in [qmin, qmax] (signed, two's complement range).
/// Memory convention of the whole project: W[out, in], X[tokens, in], H[in, in], row-major; groups run along
/// `in`.
struct Scheme {
  std::string type = "int";
  int bits = 4;              // 2 to 8
  int64_t group_size = 128;  // values of one row that share a scale; -1: the whole row (per output channel)
  bool symmetric = true;     // zero point fixed at 0

  int qmin() const { return -(1 << (bits - 1)); }
  int qmax() const { return (1 << (bits - 1)) - 1; }

  /// Group length for a row of `in` values.
  int64_t group_length(int64_t in) const { return group_size == -1 ? in : group_size; }
  /// Groups in one row; `in` must be divisible (see divides()).
  int64_t groups(int64_t in) const { return in / group_length(in); }
  bool divides(int64_t in) const { return in % group_length(in) == 0; }

  /// Bits for one weight with scales (16 bits) and packed zero points counted.
  double bits_per_weight(int64_t in) const;
  /// "int4 sym g128"
  std::string describe() const;
  /// Why rows of `in` values can't be represented ("group_size 128 does not divide ..."); nothing if they
  /// can.
  std::optional<std::string> problem(int64_t in) const;
  bool operator==(const Scheme&) const = default;
};

}  // namespace lathe
