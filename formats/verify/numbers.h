// What a quantised linear's numbers may be, whatever weights they stand for.
#pragma once

#include <ATen/core/Tensor.h>

#include <limits>
#include <string>

#include "formats/verify/finding.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe {

/// Of one linear: scales finite, above 0 and no subnormal FP32 number (consumers flush those to 0); zero
/// points and second levels finite, zero points within the grid; codes that are numbers of the grid; groups
/// of a group index each of one size; outliers finite, in their order and in the matrix.
Findings check_numbers(const std::string& linear, const QuantizedTensor& tensor);

/// Which weights of a row share a scale.
struct Grouping {
  int64_t length = 0;     // neighbours, once in order; of grids whose groups run otherwise: the row
  at::Tensor order = {};  // Long [in], of the columns; undefined: as they are
  /// Float [n, groups, length] of Float [n, in].
  at::Tensor by_group(const at::Tensor& rows) const;
};
Grouping grouping_of(const QuantizedTensor& tensor);

/// Groups whose values are all one number though their originals differ, rows that became 0 throughout:
/// nothing a solver does to weights that carry a signal. Columns that are 0 in all rows (channels without a
/// signal in calibration) count for neither. One linear's rows are looked at a few at a time, and what is
/// kept of them doesn't grow with their number.
class FlattenedGroups {
 public:
  explicit FlattenedGroups(const Grouping& grouping) : grouping_(grouping) {}

  /// The next rows as they stand in the file and as they were, Float [n, in].
  void add(const at::Tensor& values, const at::Tensor& original);
  Findings findings(const std::string& linear) const;

 private:
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  /// Of each place in a row: in how many rows it is bad, and the first of these (kNone: there is none).
  struct Places {
    at::Tensor counts, first_rows;  // Long [places]

    /// bad: Bool [n, places]; seen: rows before these.
    void add(const at::Tensor& bad, int64_t seen);
  };

  const Grouping& grouping_;
  int64_t seen_ = 0;
  at::Tensor live_columns_;  // Bool [in]
  Places zero_rows_, flat_groups_;
};

}  // namespace lathe
