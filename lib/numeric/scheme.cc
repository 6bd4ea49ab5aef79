#include "lib/numeric/scheme.h"

#include <fmt/format.h>

namespace lathe {

double Scheme::bits_per_weight(int64_t in) const {
  double overhead = 16.0 + (symmetric ? 0 : bits);
  if (scale_grid) {
    overhead = 2.0 * scale_grid->bits + 4 * 16.0 / static_cast<double>(scale_grid->rows);
  }
  return bits + overhead / static_cast<double>(group_length(in));
}

std::string Scheme::describe() const {
  const std::string granularity = group_size == -1 ? "channel" : fmt::format("g{}", group_size);
  const std::string second_level =
      scale_grid ? fmt::format(", scales int{} r{}", scale_grid->bits, scale_grid->rows) : "";
  return fmt::format("{}{} {} {}{}", type, bits, symmetric ? "sym" : "asym", granularity, second_level);
}

std::optional<std::string> Scheme::problem(int64_t in) const {
  if (type != "int") return fmt::format("scheme type '{}': expected int", type);
  if (bits < 2 || bits > 8) return fmt::format("bits {}: expected 2 to 8", bits);
  if (group_size != -1 && group_size < 1) {
    return fmt::format("group_size {}: expected a positive number, or -1 for one group a row", group_size);
  }
  if (scale_grid && symmetric) return "scale_bits: needs zero points, so `symmetric: false`";
  if (scale_grid && (scale_grid->bits < 2 || scale_grid->bits > 8)) {
    return fmt::format("scale_bits {}: expected 2 to 8", scale_grid->bits);
  }
  if (scale_grid && scale_grid->rows < 1) {
    return fmt::format("scale_group {}: expected a positive number of rows", scale_grid->rows);
  }
  if (in < 1 || !divides(in)) {
    return fmt::format(
        "group_size {} does not divide rows of {} values; use a divisor, or -1 for one group a row",
        group_size, in);
  }
  return std::nullopt;
}

}  // namespace lathe
