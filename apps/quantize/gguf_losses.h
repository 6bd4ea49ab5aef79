// What became of each tensor of a GGUF file: the error of its rounding, and a hash of what a reader must
// find.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/gguf/gguf_plan.h"
#include "formats/targets/model_folder.h"
#include "formats/verify/finding.h"
#include "lib/report/report.h"

namespace lathe {

/// Values of a large matrix that stand in memory in FP32 at a time.
inline constexpr int64_t kGgufPieceValues = int64_t{1} << 20;

/// Sums for |W - Q|^2 / |W|^2, and the same with each input channel's E[x^2].
struct RoundingSums {
  double error = 0, reference = 0, weighted_error = 0, weighted_reference = 0;

  void add(const RoundingSums& other);
  double relative() const { return reference == 0 ? 0.0 : error / reference; }
  /// Nothing where no importances were given.
  std::optional<double> weighted() const;
};

class GgufLosses {
 public:
  /// Rows of a tensor as they were rounded. blocks: Byte [rows, row_bytes]. weight: FP32 [rows, columns] that
  /// they stand for, or undefined where it is the blocks' own value. importance: FP32 [columns], or
  /// undefined. rows: Long, which of the checkpoint's they are.
  RoundingSums add(const GgufOutputTensor& tensor, const at::Tensor& blocks, const at::Tensor& weight,
                   const at::Tensor& importance, const at::Tensor& rows);
  /// A vector as the checkpoint has it, or a tensor that only the file has.
  void add_vector(const GgufOutputTensor& tensor, const at::Tensor& values);

  /// Tensors whose values, as the model that was opened from the file has them, are others than were written.
  Findings compare(const ModelFolder& stored) const;
  /// A row for each of the file's tensors.
  std::vector<Report::TensorRow> rows(const GgufOutput& output) const;

 private:
  struct Piece {
    at::Tensor rows;  // Long; undefined: a vector
    std::string hash;
  };

  using Place = std::pair<std::string, int64_t>;  // the file's tensor, and which expert's part of it

  std::map<Place, std::vector<Piece>> pieces_;
  std::map<std::string, RoundingSums> sums_;  // by the file's
};

}  // namespace lathe
