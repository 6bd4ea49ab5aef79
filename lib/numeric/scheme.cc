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

}  // namespace lathe
