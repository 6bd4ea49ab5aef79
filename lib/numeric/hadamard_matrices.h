// Hadamard matrices of orders that are no powers of two: constants.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace lathe {

struct HadamardMatrix {
  int64_t order;
  /// Row after row, four entries a hexadecimal digit, the first in its highest bit: 1 for 1, 0 for -1.
  std::string_view signs;
};

/// From the largest order down.
std::span<const HadamardMatrix> hadamard_matrices();

}  // namespace lathe
