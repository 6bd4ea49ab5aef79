// Real zero points of an artefact (hqq) on the way to a format that has integers alone: exact where all of
// them are integers of their grids, as where an integer artefact was converted to hqq before.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>

#include "recipes/plan.h"

namespace lathe {

/// Where an artefact goes.
struct Destination {
  std::string name;
  /// Why it can't hold a linear; null where it holds none with real zero points (GGUF).
  std::function<std::optional<std::string>(const PlannedLinear&)> refuses;
};

class RealZeros {
 public:
  /// Takes note of a linear of the artefact; `where`: its folder, for messages.
  void note(const std::string& where, const std::string& linear, const QuantizedTensor& tensor);
  /// Gives linears that the destination wouldn't hold integer schemes: all of one width alike, since
  /// consumers fuse some, symmetric where all zero points are 0, and by channel where groups are whole rows.
  /// UserError naming the first zero point that is no integer.
  void fit(Plan& plan, const Destination& to) const;

 private:
  std::string off_grid_;      // the first that is no integer of its grid, in words; empty: all are
  std::set<int> asymmetric_;  // widths of codes of which some zero point is not 0
};

/// The tensor as fit() has planned it.
QuantizedTensor fit_zeros(QuantizedTensor tensor, const Scheme& planned);

}  // namespace lathe
