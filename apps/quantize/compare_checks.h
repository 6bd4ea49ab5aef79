// What `quantize compare` may be held to: conditions such as "kl>0.05", and their results as JUnit XML.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

/// Figures of one artefact by their names in conditions; those that are not known are left out.
using Figures = std::map<std::string, double>;

/// One --fail-if.
struct FailCondition {
  enum class Is { above, at_least, below, at_most };

  std::string text;  // as it was typed
  std::string figure;
  Is is = Is::above;
  double value = 0;  // a share, bytes, nats: as the figure is measured

  /// Of a figure that is not a number, too.
  bool holds(double found) const;
};

/// "kl>0.05", "ppl_increase > 2%", "size>=4GiB", "same_top<95 %". UserError naming what was expected.
FailCondition parse_condition(std::string_view text);
/// Does the figure come from a comparison with a reference?
bool needs_reference(const std::string& figure);
/// A figure for people: shares in per cent, sizes in bytes.
std::string shown_figure(const std::string& figure, double value);

/// One condition of one artefact, or that it could be evaluated at all.
struct CompareCheck {
  std::string artefact, condition;
  std::string failure;               // empty: it passed
  std::string figure = {};           // that the condition is about; empty: none
  std::optional<double> value = {};  // of it; none: it is not known
};

/// One test case a check, in a suite named "quantize compare", with its figure's value as a property where
/// that is known. Text is escaped; what XML can't hold is replaced.
std::string junit_xml(const std::vector<CompareCheck>& checks, double seconds);

}  // namespace lathe
