// Which model's activations a calibrated run looks at.
#pragma once

#include <string_view>

namespace lathe {

enum class Propagate {
  quantised,  // what the already quantised part of the model puts out (true-sequential)
  reference,  // what the unquantised model puts out there
};

/// "quantised", "reference".
constexpr std::string_view name_of(Propagate propagate) {
  return propagate == Propagate::quantised ? "quantised" : "reference";
}

}  // namespace lathe
