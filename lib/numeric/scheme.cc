#include "lib/numeric/scheme.h"

#include <fmt/format.h>

namespace lathe {

std::array<int64_t, 2> Scheme::parameter_shape(int64_t out, int64_t in) const {
  const int64_t length = group_length(out, in);
  if (axis == 0) return {out / length, in};
  return {out, in / length};
}

double Scheme::bits_per_weight(int64_t out, int64_t in) const {
  if (floating()) return bits;
  double overhead = 16.0 + (symmetric ? 0 : real_zero ? 16 : bits);
  if (scale_grid) {
    overhead = 2.0 * scale_grid->bits + 4 * 16.0 / static_cast<double>(scale_grid->rows);
  }
  return bits + overhead / static_cast<double>(group_length(out, in));
}

std::string Scheme::describe() const {
  if (floating()) return "float";
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
  if (type != "int") return fmt::format("scheme type '{}': expected int", type);
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
