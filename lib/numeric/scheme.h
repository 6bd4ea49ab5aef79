// A scheme: on which numbers, and with how fine-grained scales, a weight matrix is represented.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lib/numeric/float_format.h"
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

/// A type of scheme whose codes are numbers of a floating-point format, w ~ scale * number(code). Symmetric,
/// groups along rows.
struct FloatGridType {
  /// What stands for a scale: a plain number; E4M3 codes under one FP32 scale of the whole tensor (NVFP4);
  /// E8M0 codes, powers of two (OCP MX).
  enum class Scales : uint8_t { plain, e4m3, e8m0 };

  std::string_view name;  // "nvfp4"
  FloatFormat number;
  Scales scales = Scales::plain;
  int64_t group_size = 0;  // that the format prescribes; 0: as wished
};
std::span<const FloatGridType> float_grid_types();

/// Uniform integer grid w ~ scale * (q - zero), q in [qmin, qmax] (signed, two's complement range). Or a
/// floating-point grid, of a type named in float_grid_types(). Or, of type "float", the weights as they are,
/// for formats that round them by themselves (GGUF): floating(). Or, of type "vectors", neighbouring weights
/// that are together one vector of a codebook, as other tools store them: vectors(). Memory convention of the
/// whole project: W[out, in], X[tokens, in], H[in, in], row-major; groups run along `in`, unless `axis` is 0.
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
  /// Neighbouring rows that share their groups' scales: 1; 128 with group_size 128 for DeepSeek's blocks; -1
  /// with group_size -1: one scale for the tensor. Other than 1 on floating-point grids with plain scales
  /// only.
  int64_t rows = 1;
  /// Zero points stay above the lowest code: GPTQ's version 1 has no number for one there. A wish of whoever
  /// chooses grids, not of readers; of integer zero points.
  bool zero_above_lowest = false;
  /// Of type "vectors": how its vectors are stored, "AQLM 2x8 of 8".
  std::string codebook = {};
  /// The codes are of W H in place of W: H has Sylvester's Hadamard matrix of this order, over its root, in
  /// blocks along `in` (hadamard_blocks()), and the linear's input is multiplied by H, too. 0: of W.
  int64_t hadamard = 0;

  int qmin() const { return -(1 << (bits - 1)); }
  int qmax() const { return (1 << (bits - 1)) - 1; }
  /// Is there an integer zero point for each group?
  bool has_integer_zeros() const { return type == "int" && !symmetric && !real_zero && !scale_grid; }
  int lowest_zero() const { return zero_above_lowest ? qmin() + 1 : qmin(); }

  /// Its row of float_grid_types(); null for integers and as_they_are().
  const FloatGridType* float_grid() const;
  bool per_tensor() const { return rows == -1; }
  bool shares_rows() const { return rows != 1; }
  /// Are scales codes under one scale of the tensor (NVFP4)?
  bool has_global_scale() const;
  /// The type that scales are stored in: `plain`, or that of their codes.
  DType scale_type(DType plain) const;
  /// A scheme of that type with its number's bits and the groups that it prescribes, else one a row.
  /// InternalError for an unknown name.
  static Scheme of_floats(std::string_view type);
  static Scheme of_floats(std::string_view type, int64_t rows, int64_t group_size);

  /// Group length for a row of `in` values; axis 1.
  int64_t group_length(int64_t in) const { return group_size == -1 ? in : group_size; }
  /// Groups in one row; `in` must be divisible (see divides()); axis 1.
  int64_t groups(int64_t in) const { return in / group_length(in); }
  bool divides(int64_t in) const { return in % group_length(in) == 0; }

  /// Group length in a weight [out, in], along either axis.
  int64_t group_length(int64_t out, int64_t in) const { return group_length(axis == 0 ? out : in); }
  /// Shape of its scales and zero points: [out, groups], with axis 0 [groups, in], with shared rows [ceil(out
  /// / rows), groups].
  std::array<int64_t, 2> parameter_shape(int64_t out, int64_t in) const;

  /// Bits for one weight with scales (16 bits, or their codes and a share of their grids) and zero points
  /// (packed, or 16 bits where real) counted. Outliers come on top: QuantizedTensor::bits_per_weight().
  double bits_per_weight(int64_t out, int64_t in) const;
  /// "int4 sym g128", "int4 asym g64 real zero", "int3 asym g16, scales int3 r16", "fp8_e4m3 tensor",
  /// "fp8_e4m3 block 128x128", "nvfp4 g16", "nvfp4 g16, hadamard 16"
  std::string describe() const;
  /// Why rows of `in` values can't be represented ("group_size 128 does not divide ..."); nothing if they
  /// can. For algorithms that know groups of rows only: axis 0 is a reason.
  std::optional<std::string> problem(int64_t in) const;
  /// The same for a weight [out, in] along either axis.
  std::optional<std::string> problem(int64_t out, int64_t in) const;
  bool operator==(const Scheme&) const = default;

  bool floating() const { return type == "float"; }
  /// Lathe dequantises them, and has no codes for them.
  bool vectors() const { return type == "vectors"; }
  /// Does a QuantizedTensor of it hold values in place of codes?
  bool has_values() const { return floating() || vectors(); }
  /// bits: of one weight, without codebooks and scales.
  static Scheme of_vectors(std::string codebook, int bits) {
    Scheme scheme{.type = "vectors", .bits = bits, .group_size = -1};
    scheme.codebook = std::move(codebook);
    return scheme;
  }
  static Scheme as_they_are() { return {.type = "float", .bits = 16, .group_size = -1}; }
};

}  // namespace lathe
