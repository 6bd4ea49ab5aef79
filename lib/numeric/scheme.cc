#include "lib/numeric/scheme.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using Scales = FloatGridType::Scales;

constexpr std::array<FloatGridType, 8> kFloatGrids = {{{"fp8_e4m3", kE4M3},
                                                       {"fp8_e5m2", kE5M2},
                                                       {"nvfp4", kE2M1, Scales::e4m3, 16},
                                                       {"mxfp4", kE2M1, Scales::e8m0, 32},
                                                       {"mxfp6_e2m3", kE2M3, Scales::e8m0, 32},
                                                       {"mxfp6_e3m2", kE3M2, Scales::e8m0, 32},
                                                       {"mxfp8", kE4M3, Scales::e8m0, 32},
                                                       {"mxint8", kMxInt8, Scales::e8m0, 32}}};

double float_bits_per_weight(const Scheme& scheme, const FloatGridType& grid, int64_t out, int64_t in) {
  const auto [rows, groups] = scheme.parameter_shape(out, in);
  const double bits = grid.scales == Scales::plain ? 16 : 8, global = scheme.has_global_scale() ? 32 : 0;
  return scheme.bits + (bits * static_cast<double>(rows * groups) + global) /
                           (static_cast<double>(out) * static_cast<double>(in));
}

std::string describe_floats(const Scheme& scheme) {
  if (scheme.per_tensor()) return scheme.type + " tensor";
  if (scheme.group_size == -1) return scheme.type + " channel";
  if (scheme.shares_rows()) return fmt::format("{} block {}x{}", scheme.type, scheme.rows, scheme.group_size);
  return fmt::format("{} g{}", scheme.type, scheme.group_size);
}

std::optional<std::string> float_problem(const Scheme& scheme, const FloatGridType& grid) {
  if (scheme.bits != grid.number.bits())
    return fmt::format("bits {}: {} has {}", scheme.bits, grid.name, grid.number.bits());
  if (!scheme.symmetric || scheme.real_zero || scheme.scale_grid || scheme.axis != 1)
    return fmt::format("{}: a floating-point grid has no zero points, and groups along rows", grid.name);
  if (grid.group_size != 0 && (scheme.group_size != grid.group_size || scheme.rows != 1)) {
    return fmt::format("{}: groups are {} neighbours of a row, not {}", grid.name, grid.group_size,
                       describe_floats(scheme));
  }
  if (scheme.rows < 1 && scheme.rows != -1)
    return fmt::format("rows {}: expected a positive number, or -1 for all", scheme.rows);
  if (scheme.per_tensor() && scheme.group_size != -1)
    return fmt::format("group_size {}: with one scale for the tensor it is -1", scheme.group_size);
  return std::nullopt;
}

}  // namespace

std::span<const FloatGridType> float_grid_types() { return kFloatGrids; }

const FloatGridType* Scheme::float_grid() const {
  const auto row = std::ranges::find(kFloatGrids, type, &FloatGridType::name);
  return row == kFloatGrids.end() ? nullptr : &*row;
}

bool Scheme::has_global_scale() const {
  const FloatGridType* const grid = float_grid();
  return grid != nullptr && grid->scales == Scales::e4m3;
}

DType Scheme::scale_type(DType plain) const {
  const FloatGridType* const grid = float_grid();
  if (grid == nullptr || grid->scales == Scales::plain) return plain;
  return grid->scales == Scales::e4m3 ? DType::F8_E4M3 : DType::F8_E8M0;
}

Scheme Scheme::of_floats(std::string_view type) {
  const auto row = std::ranges::find(kFloatGrids, type, &FloatGridType::name);
  LATHE_ASSERT(row != kFloatGrids.end(), "scheme type '{}'", type);
  return of_floats(type, 1, row->group_size == 0 ? -1 : row->group_size);
}

Scheme Scheme::of_floats(std::string_view type, int64_t rows, int64_t group_size) {
  Scheme scheme{.type = std::string(type), .bits = 0, .group_size = group_size};
  scheme.rows = rows;
  const FloatGridType* const grid = scheme.float_grid();
  LATHE_ASSERT(grid != nullptr, "scheme type '{}'", type);
  scheme.bits = grid->number.bits();
  return scheme;
}

std::array<int64_t, 2> Scheme::parameter_shape(int64_t out, int64_t in) const {
  const int64_t length = group_length(out, in);
  if (axis == 0) return {out / length, in};
  if (per_tensor()) return {1, 1};
  return {ceil_div(out, rows), ceil_div(in, length)};
}

double Scheme::bits_per_weight(int64_t out, int64_t in) const {
  if (has_values()) return bits;
  if (const FloatGridType* const grid = float_grid()) return float_bits_per_weight(*this, *grid, out, in);
  double overhead = 16.0 + (symmetric ? 0 : real_zero ? 16 : bits);
  if (scale_grid) {
    overhead = 2.0 * scale_grid->bits + 4 * 16.0 / static_cast<double>(scale_grid->rows);
  }
  return bits + overhead / static_cast<double>(group_length(out, in));
}

std::string Scheme::describe() const {
  if (hadamard > 0) {
    Scheme grid = *this;
    grid.hadamard = 0;
    return fmt::format("{}, hadamard {}", grid.describe(), hadamard);
  }
  if (floating()) return "float";
  if (vectors()) return codebook;
  if (float_grid() != nullptr) return describe_floats(*this);
  const std::string granularity = group_size == -1 ? "channel" : fmt::format("g{}", group_size);
  const std::string second_level =
      scale_grid ? fmt::format(", scales int{} r{}", scale_grid->bits, scale_grid->rows) : "";
  return fmt::format("{}{} {} {}{}{}{}", type, bits, symmetric ? "sym" : "asym", granularity,
                     real_zero ? " real zero" : "", axis == 0 ? " axis 0" : "", second_level);
}

std::optional<std::string> Scheme::problem(int64_t in) const {
  if (axis != 1) return fmt::format("axis {}: expected groups along rows (axis 1)", axis);
  return problem(1, in);
}

std::optional<std::string> Scheme::problem(int64_t out, int64_t in) const {
  if (floating()) return "scheme type 'float' leaves weights as they are, for the formats gguf:... to round";
  if (vectors()) return fmt::format("{}: vectors of codebooks are read, but not made", codebook);
  const FloatGridType* const grid = float_grid();
  if (type != "int" && grid == nullptr) {
    std::vector<std::string> known = {"int"};
    for (const FloatGridType& row : kFloatGrids) known.emplace_back(row.name);
    return fmt::format("scheme type '{}': expected one of {}", type, join_words(known));
  }
  if (grid != nullptr) {
    if (const auto reason = float_problem(*this, *grid)) return reason;
  } else if (shares_rows()) {
    return fmt::format("rows {}: integer grids have scales of their own in each row", rows);
  }
  if (bits < 1 || bits > 8) return fmt::format("bits {}: expected 1 to 8", bits);
  if (axis != 0 && axis != 1) return fmt::format("axis {}: expected 0 or 1", axis);
  if (symmetric && (bits == 1 || real_zero)) {
    return bits == 1 ? "bits 1: a symmetric grid of two values has no positive one; use `symmetric: false`"
                     : "real zero points: a symmetric grid has none; use `symmetric: false`";
  }
  if (group_size != -1 && group_size < 1) {
    return fmt::format("group_size {}: expected a positive number, or -1 for one group a row", group_size);
  }
  if (scale_grid && symmetric) return "scale_bits: needs zero points, so `symmetric: false`";
  if (scale_grid && (real_zero || axis != 1)) return "scale_bits: needs `zero_point: integer` and `axis: 1`";
  if (scale_grid && (scale_grid->bits < 2 || scale_grid->bits > 8)) {
    return fmt::format("scale_bits {}: expected 2 to 8", scale_grid->bits);
  }
  if (scale_grid && scale_grid->rows < 1) {
    return fmt::format("scale_group {}: expected a positive number of rows", scale_grid->rows);
  }
  const int64_t along = axis == 0 ? out : in;
  if (out < 1 || along < 1 || !divides(along)) {
    return fmt::format(
        "group_size {} does not divide {} of {} values; use a divisor, or -1 for one group a {}", group_size,
        axis == 0 ? "columns" : "rows", along, axis == 0 ? "column" : "row");
  }
  return std::nullopt;
}

}  // namespace lathe
