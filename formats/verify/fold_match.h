// Do the two sides of each fold go together: what one was divided by, was the other multiplied by?
//
// A fold through an edge divides the producer's channels by s, a norm's weights or a linear's rows, and
// multiplies the consumers' columns by s. Of a quantised linear nobody knows its factors, but they can be
// fitted: W became R W C (weight_distance.h), up to one number that R and C share. That number is found where
// one of the two is known: a linear that is no producer has R = 1, one behind a norm C = what the norm lost.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "formats/targets/model_folder.h"
#include "formats/verify/finding.h"
#include "formats/verify/weight_distance.h"

namespace lathe {

/// Linears on edges along which scales may have moved: those that have to be fitted (Folds::certain).
std::vector<std::string> linears_on_edges(const ModelGraph& graph);

/// `distances` of the artefact's linears, fitted as above; a linear that has none is the model's own.
/// Channels of which rounding left too little to tell a factor by are not looked at, nor are edges that lack
/// a fit.
Findings check_fold_match(const ModelFolder& artefact, const ModelFolder& reference,
                          const std::map<std::string, WeightDistance>& distances);

}  // namespace lathe
