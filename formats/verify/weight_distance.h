// How far a quantised linear may lie from the weights that it was made of, and how far it does.
//
// The bound. A grid of 2^b levels over a group's range has steps of D = range / (2^b - 1). Rounding to
// nearest errs by D^2 / 12 in the mean square where weights lie anywhere between two levels, by D^2 / 4 at
// most: three times the mean. Other solvers choose to err more in one weight to err less in a sum: ranges
// that are searched cut the largest weights off (never for more of the error that they weigh), error feedback
// and reference matching move a weight by what its neighbours lost, HQQ lets outliers go. What they do stays
// a small multiple of the mean; what damage does (a zero point off by one: 12 times, a wrapped one, a wrong
// group, row or matrix: hundreds) does not. The multiples that are allowed stand in the .cc, with the largest
// that shipped recipes reach. On a floating-point grid D is the distance of two neighbours at the weight's
// size.
//
// Folds. A transform may have multiplied input channels by c and rows by r (and neighbours in the model by
// the inverse), so that W became diag(r) W diag(c); nothing in the artefact says by what. Both are fitted, by
// least squares, before the error is counted: for out + in numbers of the fit there are out * in weights, so
// no other matrix can pass for W by them.
#pragma once

#include <ATen/core/Tensor.h>

#include <limits>
#include <optional>
#include <string>

#include "formats/verify/finding.h"
#include "formats/verify/numbers.h"
#include "lib/numeric/distortion.h"
#include "lib/numeric/float_format.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe {

struct WeightDistance {
  double relative = 0;      // |Q - R W C|^2 / |R W C|^2
  double of_predicted = 0;  // squared error over what the scheme predicts: 1 for rounding to nearest
  double worst_group = 0;   // the same where it is largest of the groups that look damaged; 0: none is above
  int64_t worst_row = 0, worst_place = 0;  // that group's
  double predicted = 0;                    // squared error of rounding to nearest, in parts of |W|^2
  double gain = 1;                         // <Q, W> / <W, W>, where nothing was fitted
  double row_gain = 1, row_predicted = 0;  // both of the row whose gain is furthest from what it may be
  int64_t row_of_gain = 0;                 // that row
  at::Tensor columns;                      // Float [in], C's diagonal; undefined: not looked for
  at::Tensor column_errors;  // Double [in], of each column the squared error in parts of its square; likewise
  at::Tensor rows, row_errors;  // Float [out], R's diagonal; Double [out]; likewise. C has the common factor
};

/// What is allowed.
struct DistanceLimits {
  double relative = std::numeric_limits<double>::infinity();
  double of_predicted = std::numeric_limits<double>::infinity();
  double worst_group = std::numeric_limits<double>::infinity();
  /// How much larger or smaller, as a factor, all weights together may be, and those of a row: beside
  /// kLessByPrediction and kMoreByPrediction (weight_distance.cc).
  double gain = std::numeric_limits<double>::infinity();
  double row_gain = std::numeric_limits<double>::infinity();
  /// Where no more than this is lost of all weights, `of_predicted` doesn't count.
  double negligible = 0;
};
/// Of weights that are codes: weight_distance.cc says why so much.
DistanceLimits limits_of_codes();

/// One linear's distance, and the groups that it lost (FlattenedGroups).
struct WeightCheck {
  WeightDistance distance;
  Findings findings;
};
/// Were there transforms that move scales?
enum class Folds {
  none,
  possible,  // looked for where the weights as they were are too far off
  certain
};
/// A matrix as it stands in a file, whatever the file.
struct StoredWeight {
  std::string name, scheme;  // "model.layers.0.mlp.up_proj", "int4 asym g64"
  int64_t rows = 0, columns = 0;
  Grouping grouping;
  MatrixRows values;  // Float
  /// Of one group's range, the steps of its grid; 0: floating-point numbers of `number`.
  double steps = 0;
  bool symmetric = true;
  std::optional<FloatFormat> number = std::nullopt;
  double largest_scale = 0;   // where groups are not of one row; else 0
  bool power_of_two = false;  // so are its scales
  DistanceLimits limits;
};
StoredWeight stored_weight(const std::string& linear, const QuantizedTensor& tensor);

/// Rows are read some at a time: memory doesn't grow with the matrix.
WeightCheck check_weight(const StoredWeight& weight, const MatrixRows& original, Folds folds);

}  // namespace lathe
