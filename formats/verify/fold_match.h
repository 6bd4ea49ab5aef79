// Do the two sides of each fold go together: what one was divided by, was the other multiplied by?
//
// A fold through an edge divides the producer's channels by s, a norm's weights or a linear's rows, and
// multiplies the consumers' columns by s. Of a quantised linear nobody knows its factors, but they can be
// fitted: W became R W C (weight_distance.h), up to one number that R and C share. That number is found where
// one of the two is known: a linear that is no producer has R = 1, one behind a norm C = what the norm lost.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "formats/verify/finding.h"
#include "formats/verify/weight_distance.h"
#include "lib/model/graph.h"

namespace lathe {

/// Linears on edges along which scales may have moved: those that have to be fitted (Folds::certain).
std::vector<std::string> linears_on_edges(const ModelGraph& graph);

/// May a fold have changed that tensor: a producer's weight or bias, a consumer's weight?
bool may_be_folded(const ModelGraph& graph, const std::string& tensor);

/// An artefact beside its model, in the names of the artefact's graph.
struct FoldedModel {
  const ModelGraph& graph;
  /// Norms' weights and linears' biases, Float; `after` is undefined where it can't be read.
  std::function<at::Tensor(const std::string&tensor)> before, after;
  /// A linear that has no distance because it holds the model's own weights.
  std::function<bool(const std::string& linear)> untouched;
  /// Channel by channel, too: not where their values are known to be what the run meant.
  bool by_channel = true;
};

/// `distances` of the artefact's linears, fitted as above. Channels of which rounding left too little to tell
/// a factor by are not looked at, nor are edges that lack a fit.
Findings check_fold_match(const FoldedModel& model, const std::map<std::string, WeightDistance>& distances);

}  // namespace lathe
