#include "lib/numeric/scheme.h"

#include <fmt/format.h>

namespace lathe {

double Scheme::bits_per_weight(int64_t in) const {
  const double overhead = 16.0 + (symmetric ? 0 : bits);
  return bits + overhead / static_cast<double>(group_length(in));
}

std::string Scheme::describe() const {
  const std::string granularity = group_size == -1 ? "channel" : fmt::format("g{}", group_size);
  return fmt::format("{}{} {} {}", type, bits, symmetric ? "sym" : "asym", granularity);
}

std::optional<std::string> Scheme::problem(int64_t in) const {
  if (type != "int") return fmt::format("scheme type '{}': expected int", type);
  if (bits < 2 || bits > 8) return fmt::format("bits {}: expected 2 to 8", bits);
  if (group_size != -1 && group_size < 1) {
    return fmt::format("group_size {}: expected a positive number, or -1 for one group a row", group_size);
  }
  if (in < 1 || !divides(in)) {
    return fmt::format(
        "group_size {} does not divide rows of {} values; use a divisor, or -1 for one group a row",
        group_size, in);
  }
  return std::nullopt;
}

}  // namespace lathe
