// The driver of a calibrated run: one pass through the model, block by block, sub-layer by sub-layer.
//
//   for each block:                   hidden states of all samples are stored; weights are one block's
//     x = norm1(h)              -> statistics of x -> fold, solve q, k, v
//     a = attention(x)          with the quantised q, k, v -> statistics of a -> fold, solve o
//     h = h + o(a); y = norm2(h)   -> statistics of y -> fold, solve gate, up
//     z = act(gate(y)) * up(y)     -> statistics of z -> fold, solve down
//     h = h + down(z)           hand the block over; drop it
//   x = final_norm(h)          -> statistics of x -> solve lm_head, where the job has a task for it
//
// So every linear is calibrated on what the already quantised part before it really puts out
// (true-sequential), and the forward pass runs once: tools built on hooks run it two to four times. The
// driver knows algorithms only by their interfaces, and files not at all.
//
// A sparse MLP's experts have inputs of their own: see experts_pass.h.
//
// On a GPU everything is queued, and the host waits at a block's end (InputSolver::take_outcome), when its
// results are copied and all checks are read; so is then what a KV cache is fitted to (KvCacheSample::fit).
// Before that it waits only where it decides by a number, never within a sweep over the samples: AWQ and
// SmoothQuant once for each edge (which scale, or none), solvers for what their next step hangs on (is the
// Hessian's factor sound, are all grids finite), ranges that are searched on the host, formats that round
// weights by themselves (CalibrationJob::round_for_formats), static ranges of inputs (their statistics alone,
// before the solver is queued), folds into solved rows (QuantizedTensor::scale_rows), distributions of inputs
// (observers of ranges, CalibrationJob::describe_inputs); in a mixture of experts, for the router's counts:
// once for each stream (ExpertRoutes).
//
// A KV cache whose levels are weighted by Fisher's information has the unquantised model run there and back
// before all that (calib/driver/cache_gradients.h).
//
// Where an algorithm asks for statistics of two streams (StatSet::cross_gram), the driver carries the
// unquantised model's hidden states beside, at the price of a second forward pass; both are at the same place
// at any time.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "algorithms/algorithm.h"
#include "calib/driver/expert_policy.h"
#include "calib/driver/propagate.h"
#include "calib/stats/activation_range.h"
#include "calib/stats/input_description.h"
#include "calib/stats/input_histogram.h"
#include "lib/activations/activation_store.h"
#include "lib/model/graph.h"
#include "lib/model/weight_source.h"
#include "lib/numeric/distortion.h"
#include "lib/numeric/kv_cache.h"
#include "lib/numeric/weight_histogram.h"

namespace lathe {

/// What to do with one linear; solver null: leave it in floating point.
struct LinearTask {
  const Solver* solver = nullptr;
  Scheme scheme;
  std::optional<ActivationTask> activations = std::nullopt;  // none: its input stays in floating point
};

/// All experts' Gram matrices at once would be many blocks' worth.
inline constexpr uint64_t kMostExpertStatistics = uint64_t{512} << 20;

/// Where a run keeps its activations, and how many it computes at a time. Results are the same bytes whatever
/// stands here, but for the micro-batch where micro_batch_rounds() says so.
struct StreamStorage {
  HiddenStorage hidden;
  /// Samples that are computed together, one of micro_batches(); 0: the largest.
  int64_t micro_batch = 0;
  /// attention_out and mlp_mid of all samples, between the sweep that observes them and the one that uses
  /// them; empty: they are made twice instead (attention, gate and up: about half a forward pass more).
  std::optional<Placement> inner = Placement::device;
  /// Bytes of statistics of a block's experts that are collected at a time, unless one expert's alone are
  /// more. What is left is collected in further sweeps, each with a norm of all tokens.
  uint64_t expert_statistics = kMostExpertStatistics;
  /// Is the next block read while one is worked on? Else when its turn comes, which on a CPU costs the wait
  /// for the file, and a block's memory less.
  bool read_ahead = true;
  /// Do solvers work in the place of an input's Gram matrix, which waits in a file (Solver::sparing_bytes())?
  /// And are the values inside an MLP observed when the weights that made them are gone? On a CPU, for inputs
  /// of all tokens; it costs the file's way and the look at those values again.
  bool sparing = false;
};

/// What a linear's solver was given, for formats that round weights by themselves; folds that came after the
/// solver are in it.
struct GivenWeight {
  at::Tensor weight;       // FP32 [out, in], CPU
  at::Tensor mean_square;  // FP32 [in], CPU, E[x^2] of its input; undefined: nothing was measured
  int64_t tokens = 0;      // that were measured
};

/// What such a format makes of one: its rows on the CPU, for as long as it is looked at.
struct FormatRounding {
  std::string format;
  MatrixRows rows;
};

struct CalibrationJob {
  const ModelGraph* graph = nullptr;
  const WeightSource* weights = nullptr;
  /// As ModelGraph::blocks and Block::linears; one more list, lm_head's, where the head is quantised, too.
  std::vector<std::vector<LinearTask>> tasks;
  std::vector<const Transform*> transforms;  // applied in order
  DType scale_dtype = DType::F16;
  at::Tensor ids;  // Long [samples, length], CPU
  /// Valid tokens of each sample, 1 to length: the rest is padding on the right. It is computed (attention is
  /// causal, so no valid token sees it) but counts in no statistic. Empty: all are full.
  std::vector<int64_t> lengths;
  /// Float [samples, length], CPU, >= 0: how often each token counts in Gram matrices and mean squares (other
  /// statistics take it once). One of weight 0 is computed, and those behind it attend to it, but it counts
  /// in no statistic (counted_tokens.h). Undefined: once.
  at::Tensor token_weights = {};
  Propagate propagate = Propagate::quantised;  // what statistics are taken of
  ExpertPolicy experts;
  c10::Device device = c10::Device(c10::kCPU);
  DType compute = DType::F32;  // of the forward pass's products and of what is observed
  std::optional<KvCacheScheme>
      kv_cache;                    // whose parameters are to be found; none: it stays in floating point
  bool hand_over_weights = false;  // LinearOutcome::given, for formats that round weights by themselves
  bool describe_inputs = false;    // BlockOutcome::inputs
  /// What those formats make of a weight, as soon as it is solved: while its input's Gram matrix is there to
  /// say what that costs (LinearOutcome::format_losses). May be empty.
  std::function<std::vector<FormatRounding>(const Linear&, const GivenWeight&)> round_for_formats = nullptr;
  double format_bits = 0;  // for each weight, of what that keeps until the block's end
  /// Where gradients stand that a KV cache is fitted by (calib/driver/cache_gradients.h).
  HiddenStorage cache_gradients = {};
  StreamStorage storage;
};

/// Tokens that the report's output errors are of, where no algorithm asks for a Gram matrix: the first ones,
/// in whole products. A Gram matrix costs half as much as the forward pass, and these do as well: on SmolLM2
/// (RTN, 20,480 tokens) linears' errors differ from those of all by 0.5 % (the median; the most: 4 %).
inline constexpr int64_t kReportTokens = 8192;

/// What a transform or solver asks of an input: its statistics, and those that the report and formats add.
struct InputNeeds {
  StatSet wanted;
  bool whole_gram = false;  // not the report's alone
};
InputNeeds with_report(const CalibrationJob& job, const StatSet& asked);

/// What such a format lost of one.
struct FormatLoss {
  std::string format;
  double output_relative_error = 0;  // as Distortion's, of LinearOutcome::output_tokens
};

/// What became of one quantised linear.
struct LinearOutcome {
  const Linear* linear = nullptr;
  QuantizedTensor quantized;  // on the CPU
  Distortion distortion;      // against the folded weights, on the inputs they really get
  int64_t output_tokens = 0;  // that the distortion's output error is of,
  int64_t tokens = 0;         // and that were observed
  bool clipped = false;       // to a range that a transform offered
  double seconds = 0;         // transform and solve, shared evenly by linears solved together; on a GPU
                              // until they are queued
  std::vector<std::string> events;
  WeightHistogram histogram = {};                   // of the folded weights, before and after
  std::optional<GivenWeight> given = std::nullopt;  // with CalibrationJob::hand_over_weights
  std::vector<FormatLoss> format_losses = {};       // with CalibrationJob::round_for_formats
};

/// What became of one edge.
struct FoldOutcome {
  const ScaleEdge* edge = nullptr;
  size_t transform = 0;  // index into CalibrationJob::transforms
  bool applied = false;
  double ratio = 0, loss_before = 0, loss_after = 0;
  std::string note;
};

/// What was seen of an input, before any fold.
struct InputOutcome {
  Input input;
  InputDescription seen;
};

/// What solved linears read, folds applied: a sample of it.
struct InputSpread {
  Input input;
  InputHistogram histogram;
};

/// Of a block, or of the head (ModelGraph::part).
struct BlockOutcome {
  size_t index = 0;
  std::vector<LinearOutcome> linears;
  std::vector<FoldOutcome> folds;
  std::vector<int64_t>
      expert_tokens;                 // that the router sent to each expert and that count; empty: no experts
  std::vector<InputOutcome> inputs;  // with CalibrationJob::describe_inputs: those that solved linears read
  std::vector<InputSpread>
      spreads;  // of the same inputs, in any run; not of experts that were never measured
  /// Tensors that stay in floating point and were changed by a fold (norm weights, biases, kept linears):
  /// FP32, CPU, every value representable in the checkpoint's dtype.
  std::map<std::string, at::Tensor> changed;
  /// With CalibrationJob::kv_cache: its scales or parameters, of the keys and values that the finished block
  /// makes of all tokens that count.
  std::optional<KvCacheQuantizer> kv_cache = std::nullopt;
};

/// Takes, or fills, hidden states at a block's boundary: of every stream that the job carries (the observed
/// one, then the unquantised model's), samples in order, FP32 [some samples, length, hidden] on the CPU.
using TakeStates = std::function<void(const at::Tensor&)>;
using FillStates = std::function<void(at::Tensor&)>;

struct DriverEvents {
  std::function<void(BlockOutcome&&)> block_done;  // in order; owns the results from then on
  std::function<void(int64_t blocks_done, std::string_view stage)> progress;  // may be empty
  /// Between block_done and the next block, with what hands over the hidden states that it begins with, for
  /// whoever means to go on from there another time. May be empty.
  std::function<void(size_t next_block, const std::function<void(const TakeStates&)>& hand_over)> boundary =
      nullptr;
};

/// Where to begin: at the model's first block, or at a later one (or the head) with the hidden states that an
/// earlier run of the same job had there.
struct StartAt {
  size_t block = 0;
  FillStates states = nullptr;  // with block > 0; not asked where nothing is left
};

/// May the last bits depend on how many samples are computed together? On a CPU each sample is multiplied by
/// itself (linear_product), so that they don't; but a GPU's libraries choose their kernels by a product's
/// rows, and an expert's rows are those of all samples at hand.
bool micro_batch_rounds(const CalibrationJob& job);

/// Does the job need the unquantised model's hidden states beside those of the quantised one?
bool carries_two_streams(const CalibrationJob& job);

/// Runs the job; block_done is called for the start's block and those after it. UserError as
/// check_expert_fallback(), and where an activation or weight is not finite, naming block, input, sample and
/// token. Looks for cancellation between chunks.
void calibrate(const CalibrationJob& job, const DriverEvents& events, const StartAt& start = {});

}  // namespace lathe
