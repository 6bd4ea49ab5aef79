// The two seams of a calibrated run. A Transform changes the model without changing its function (AWQ's
// scales, SmoothQuant, rotations) and may offer weight ranges; a Solver rounds weight matrices. Never both in
// one. Algorithms declare the statistics they need; the driver never asks who they are.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "calib/stats/input_stats.h"
#include "lib/base/options.h"
#include "lib/base/work.h"
#include "lib/model/graph.h"
#include "lib/numeric/activation_scheme.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe {

/// One linear to be quantised, as a transform or solver sees it.
struct LinearProblem {
  std::string name;  // "model.layers.0.self_attn.q_proj"
  LinearRole role;
  at::Tensor weight;  // FP32 [out, in], transforms so far applied
  Scheme scheme;
  DType scale_dtype = DType::F16;
  std::optional<GroupRange> range;                             // what a transform offered
  std::optional<ActivationScheme> activations = std::nullopt;  // of its input; none: floating point
  bool transformed = false;  // a transform came before, which chose for the layer's outputs
};

/// Weights of linears with so many rows each.
inline double weights_of(const std::vector<int64_t>& rows, int64_t width) {
  return static_cast<double>(std::accumulate(rows.begin(), rows.end(), int64_t{0})) *
         static_cast<double>(width);
}

/// A Gram matrix whose place in memory may be used meanwhile, and a folder for what stood there.
struct LentGram {
  at::Tensor* gram = nullptr;  // that of the statistics; no one else holds it
  std::filesystem::path work;  // an existing one
};

/// Linears that read one input, with that input's statistics.
struct SharedInputProblem {
  std::vector<LinearProblem> linears;
  const InputStats* stats = nullptr;  // never null when the algorithm declared needs
  /// Where memory is short: solve() takes sparing_bytes(), and leaves the matrix as it found it. On the CPU.
  std::optional<LentGram> lent = std::nullopt;
};

/// What a transform decided for one edge. Numbers are for the report.
struct FoldDecision {
  at::Tensor scales;  // FP32 [in] > 0: consumers' columns * s, producer's channels / s; undefined: no fold
  double ratio = 0;   // AWQ's exponent or SmoothQuant's alpha, where there is one
  double loss_before = 0, loss_after = 0;  // the transform's own objective without and with the fold
  std::string note;                        // why there is no fold, if there is none
};

class Transform {
 public:
  virtual ~Transform() = default;
  virtual StatSet needs() const = 0;
  /// Chooses scales for one edge. `problem.linears` are the edge's consumers that will be quantised.
  virtual FoldDecision fold(const ScaleEdge& edge, const SharedInputProblem& problem) const = 0;
  /// Offers a weight range for each group of a linear, given the statistics of its (already folded) input.
  virtual std::optional<GroupRange> range(const LinearProblem& linear, const InputStats& stats) const = 0;
  /// Does range() ever give one?
  virtual bool offers_ranges() const { return false; }
  /// The order of the Hadamard blocks that it rotates the inputs of quantised linears and the columns of
  /// their weights by; the plan puts it into their schemes (Scheme::hadamard), and nothing is asked of it
  /// after that. 0: it folds scales.
  virtual int64_t rotation() const { return 0; }
  /// What fold() takes at the most over an edge whose consumers have `rows` rows in all that read `width`
  /// channels, and range() for one linear [out, in]. For the plan.
  virtual Work fold_work(const ScaleEdge&, int64_t /*rows*/, int64_t /*width*/) const { return {}; }
  virtual Work range_work(LinearRole, const Scheme&, int64_t /*out*/, int64_t /*in*/) const { return {}; }
};

/// A solver's answer for one linear.
struct SolveResult {
  QuantizedTensor quantized;
  std::vector<std::string>
      events;  // anything a person should know (damping raised, ...); empty when all went well
};

/// What a solver takes beside problem and answer where memory is short.
struct SparingBytes {
  uint64_t scratch = 0, files = 0;
};

/// What a solver does with the ranges that transforms offer: it is asked before any is searched.
enum class RangeOffers {
  taken,     // where there is one
  required,  // as its options say; a recipe without a transform that offers any is a slip
  unused
};

class Solver {
 public:
  virtual ~Solver() = default;
  virtual StatSet needs() const = 0;
  /// One result per linear, in order. A NaN or a refused input is a UserError naming the linear.
  virtual std::vector<SolveResult> solve(const SharedInputProblem& problem) const = 0;
  /// Bytes that solve() takes at its peak for linears with `rows` rows in all that read an input of `width`
  /// channels, beside problem and answer and a few copies of rows_per_chunk() rows. For the memory plan.
  virtual uint64_t scratch_bytes(int64_t /*rows*/, int64_t /*width*/) const { return 0; }
  /// The same of linears of one scheme where the input's Gram matrix is lent: with less of it or, of a solver
  /// that can't do with less, as much. Results are the same bytes.
  virtual SparingBytes sparing_bytes(int64_t rows, int64_t width, const Scheme&) const {
    return {scratch_bytes(rows, width), 0};
  }
  /// What solve() takes at the most for linears of one scheme, with so many rows each, that read `width`
  /// channels. For the plan.
  virtual Work work(const std::vector<int64_t>& /*rows*/, int64_t /*width*/, const Scheme&) const {
    return {};
  }
  /// Do its answers under this scheme come with QuantizedTensor::group_index?
  virtual bool reorders_groups(const Scheme&) const { return false; }
  virtual RangeOffers range_offers() const { return RangeOffers::taken; }
  /// Why its options don't go with a scheme that has this many weights under one scale; nothing if they do.
  /// For the plan.
  virtual std::optional<std::string> refuses_groups(const Scheme&, int64_t /*length*/) const {
    return std::nullopt;
  }
};

/// Why a solver that rounds refuses a scheme of type float.
inline constexpr const char* kNoGrid = "scheme type 'float' has no grid to round to; use solver float";

/// Why a solver of integers refuses a floating-point grid.
inline constexpr const char* kIntegersOnly =
    "it rounds to integers, not to floating-point grids; use `type: int`, or solver rtn or gptq";

/// What a solver refuses that rounds rows to integer grids of at least two bits; it names those that don't.
std::optional<std::string> plain_grid(const Scheme& scheme);
/// The same of one that rounds to floating-point grids as well.
std::optional<std::string> plain_or_float_grid(const Scheme& scheme);

/// Registry rows; algorithms/registry.cc lists them all.
struct TransformEntry {
  std::string name, summary;
  std::vector<OptionSpec> options;
  std::unique_ptr<Transform> (*make)(const Options&);
  bool rotates = false;  // Transform::rotation(); else it moves scales
};
struct SolverEntry {
  std::string name, summary;
  std::vector<OptionSpec> options;
  std::unique_ptr<Solver> (*make)(const Options&);
  /// Why this solver can't round to a scheme; nothing if it can. Left out: groups of rows, integer zero
  /// points and at least two bits (plain_grid()).
  std::optional<std::string> (*refuses)(const Scheme&) = plain_grid;
};
const std::vector<TransformEntry>& transforms();
const std::vector<SolverEntry>& solvers();

}  // namespace lathe
