// A scheme: on which numbers, and with how fine-grained scales, a weight matrix is represented.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "lib/tensor/dtype.h"

namespace lathe {

/// SpQR's second level: scales and zero points that are themselves codes of `bits` bits, one block of them (a
/// group of `rows` neighbouring rows) on a grid whose own scale and zero are FP16.
struct ScaleGrid {
  int bits = 3;       // 2 to 8
  int64_t rows = 16;  // divides `out`
  bool operator==(const ScaleGrid&) const = default;
};

/// A grid of scales whose zero lies further out holds one value only: FP16 can't tell its codes apart there.
inline constexpr double kLargestScaleZero = 2048;

/// Uniform integer grid w ~ scale * (q - zero), q in [qmin, qmax] (signed, two's complement range). Or, of
/// type "float", the weights as they are, for formats that round them by themselves (GGUF): floating().
/// Memory convention of the whole project: W[out, in], X[tokens, in], H[in, in], row-major; groups run along
/// `in`, unless `axis` is 0.
struct Scheme {
  std::string type = "int";
  int bits = 4;              // 1 to 8
  int64_t group_size = 128;  // values of one row that share a scale; -1: the whole row (per output channel)
  bool symmetric = true;     // zero point fixed at 0
  std::optional<ScaleGrid> scale_grid = {};  // then zero points are real numbers; asymmetric only
  /// Zero points are real numbers, held in the scales' type, instead of integers of the grid (HQQ).
  bool real_zero = false;
  /// 1: a group is `group_size` neighbours of one row. 0: of one column, the rows k, k + G, k + 2 G, ...
  /// where G = out / group_size, as the hqq library counts them (W.reshape(group_size, -1)); -1: the whole
  /// column.
  int axis = 1;

  int qmin() const { return -(1 << (bits - 1)); }
  int qmax() const { return (1 << (bits - 1)) - 1; }

  /// Group length for a row of `in` values; axis 1.
  int64_t group_length(int64_t in) const { return group_size == -1 ? in : group_size; }
  /// Groups in one row; `in` must be divisible (see divides()); axis 1.
  int64_t groups(int64_t in) const { return in / group_length(in); }
  bool divides(int64_t in) const { return in % group_length(in) == 0; }

  /// Group length in a weight [out, in], along either axis.
  int64_t group_length(int64_t out, int64_t in) const { return group_length(axis == 0 ? out : in); }
  /// Shape of its scales and zero points: [out, groups], with axis 0 [groups, in].
  std::array<int64_t, 2> parameter_shape(int64_t out, int64_t in) const;

  /// Bits for one weight with scales (16 bits, or their codes and a share of their grids) and zero points
  /// (packed, or 16 bits where real) counted. Outliers come on top: QuantizedTensor::bits_per_weight().
  double bits_per_weight(int64_t out, int64_t in) const;
  /// "int4 sym g128", "int4 asym g64 real zero", "int3 asym g16, scales int3 r16"
  std::string describe() const;
  /// Why rows of `in` values can't be represented ("group_size 128 does not divide ..."); nothing if they
  /// can. For algorithms that know groups of rows only: axis 0 is a reason.
  std::optional<std::string> problem(int64_t in) const;
  /// The same for a weight [out, in] along either axis.
  std::optional<std::string> problem(int64_t out, int64_t in) const;
  bool operator==(const Scheme&) const = default;

  bool floating() const { return type == "float"; }
  static Scheme as_they_are() { return {.type = "float", .bits = 16, .group_size = -1}; }
};

}  // namespace lathe
