// HQQ, half-quadratic quantisation (Badri and Shaji 2023, mobiusml.github.io/hqq_blog): grids are fitted to
// the weights alone, for few large errors instead of many small ones.
//
// Problem, for each group of weights w and a scale s: the zero point z that minimises
//     phi(w - s (q - z)),  q = clamp(round(w / s + z)),  phi the l_p norm with p < 1,
// which is neither convex nor smooth. Half-quadratic splitting introduces the error e as a variable of its
// own,
//     min over z, e of  phi(e) + beta / 2 ||e - (w - s (q - z))||^2,
// and alternates ("Half-Quadratic Solver" there; hqq/core/optimize.py of hqq 0.2.8):
//     (sp1)  e = sign(d) relu(|d| - |d|^(p-1) / beta),  d = w - s (q - z)    generalised soft thresholding
//     (sp2)  z = mean(q - (w - e) / s)                                       the mean, in closed form
//     beta = kappa beta.
// An error is left out of the fit as far as it exceeds what thresholding takes: below beta^(1 / (p - 2))
// (0.17 with the defaults), which is most weights of a language model, e is 0 and the step is least squares
// on fixed codes.
//
// What differs from the library:
// - It stops when the mean |d| of the *whole tensor* falls no more, and then answers with the step after the
//   best one. Here each group stops by its own sum |d|, and keeps the best grid that was seen, the start
//   included: an answer is never worse than the start by that measure, and does not depend on which rows are
//   solved together.
// - kappa: the library's default solver reads it and leaves beta as it is; here it acts, as in the paper and
//   in the library's "v2".
// - Scale and zero point are rounded to the type in which they are stored before each error is measured.
// - Groups of a range below 1e-4 get scale 1 in the library, and lose their values; here every range has
//   its scale.
// - scale: fitted regresses w - e on q, which gives the scale along with the zero point: (sp2) for both, and
//   a lower error at the same cost. A regression lowers squares, so there sum d^2 says when to stop and
//   what is best (mean KL on SmolLM2 0.188; by sum |d| 0.193). scale: fixed is the paper's. auto (the
//   default) is fitted, but fixed after a transform: its scales and clip were chosen for the layer's outputs,
//   and a fit to the weights undoes part of that (AWQ on lathe-tiny, 3 bits, group 64: mean KL 0.0753 fitted,
//   0.0716 fixed, 0.0724 rounded plainly; without AWQ 0.0901 fitted, 0.0955 fixed and rounded plainly).
//   `range` gives the iteration another start than the group's minimum and maximum, unless a transform offers
//   one. (The library has a search around the scale, scale_gridsearch, off and experimental.)
// - round_zero: whether the iteration starts from an integer zero point. It ends in the optimum next to its
//   start, and that one then holds 0 almost exactly, which most small weights are near. auto is the
//   library's choice, 4 bits. On SmolLM2 (4 bits, group 64, fitted scales; tests/bench/RESULTS.md) the mean
//   KL falls from 0.204 to 0.193 by it, although the weights' mean |error| rises.
// - Integer zero points (zero_point: integer), for files that hold no others: the real optimum's two
//   neighbours and plain rounding's zero point, each with its scale fitted where `scale` says so; the best
//   of the three.
//   (The library's round_zero rounds the start, and then lets the iteration leave the integers.)
//
// Cost: at most `iterations` + 1 passes over weights in cache, a dozen operations a weight each; groups are
// independent. Numerics: FP32, sums in a fixed order (lib/kernels/device/hqq.cuh), the same bits on every
// device and thread count. hqq_reference.cc is the same in FP64, slowly: fixed and fitted scales, real and
// integer zero points, both axes.
#include "algorithms/hqq.h"

#include <ATen/ATen.h>

#include "algorithms/group_rows.h"
#include "algorithms/weight_range.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/kernels/hqq.h"

namespace lathe {
namespace {

enum class ScaleFit { automatic, fitted, fixed };

struct Settings {
  RangeChoice range;
  ScaleFit scale;
  std::string round_zero;  // auto, always, never
  kernels::HqqChoice iteration;
};

[[noreturn]] void refuse_weight(const LinearProblem& linear, const at::Tensor& finite) {
  const at::Tensor place = finite.logical_not().nonzero()[0].cpu();
  user_error("{}: a weight of {} holds a NaN or an infinity; the checkpoint is damaged", linear.name,
             name_of_group(linear.scheme, linear.weight.size(1), place[0].item<int64_t>()));
}

[[noreturn]] void refuse_scale(const LinearProblem& linear, const GroupRange& range,
                               const at::Tensor& finite) {
  const int64_t group = finite.logical_not().nonzero()[0][0].item<int64_t>();
  user_error(
      "{}: {}: weights from {:g} to {:g} need a scale or zero point beyond {}; use more bits or BF16 scales",
      linear.name, name_of_group(linear.scheme, linear.weight.size(1), group),
      range.lo[group][0].item<float>(), range.hi[group][0].item<float>(), name_of(linear.scale_dtype));
}

/// Where the groups' grids start, [groups, 1] each: what a transform offered, or found in the weights.
GroupRange start_range(const LinearProblem& linear, const InputStats* stats, const at::Tensor& groups,
                       RangeChoice choice) {
  const auto column = [](const at::Tensor& end) { return end.contiguous().view({-1, 1}); };
  if (!linear.range && choice.method == RangeMethod::weighted && linear.scheme.axis == 1) {
    LATHE_ASSERT(stats != nullptr, "{}: HQQ got no statistics of its input", linear.name);
    const GroupRange range = weight_range(linear.weight.contiguous(), linear.scheme, linear.scale_dtype,
                                          choice, linear.name, stats->mean_square);
    return {column(range.lo), column(range.hi)};
  }
  if (!linear.range) {
    Scheme rows = linear.scheme;
    rows.axis = 1;
    rows.group_size = -1;
    // With axis 0 all weights of a group meet one input, whose mean square weighs nothing against itself.
    if (choice.method == RangeMethod::weighted) choice.method = RangeMethod::mse;
    return weight_range(groups, rows, linear.scale_dtype, choice, linear.name);
  }
  LATHE_ASSERT(linear.scheme.axis == 1 && linear.range->lo.numel() == groups.size(0) &&
                   linear.range->hi.numel() == groups.size(0),
               "{}: the offered range doesn't fit the weight", linear.name);
  return {column(linear.range->lo), column(linear.range->hi)};
}

class Hqq final : public Solver {
 public:
  explicit Hqq(Settings settings) : settings_(settings) {}

  StatSet needs() const override { return {.mean_square = settings_.range.method == RangeMethod::weighted}; }

  /// Groups that are done earlier take fewer steps. With integer zero points three more are tried at the end.
  Work work(const std::vector<int64_t>& rows, int64_t width, const Scheme& scheme) const override {
    const double steps = static_cast<double>(settings_.iteration.iterations) + 1;
    return {.roundings = (steps + (scheme.real_zero ? 0 : 3) + range_roundings(settings_.range, scheme)) *
                         weights_of(rows, width)};
  }

  std::optional<std::string> refuses_groups(const Scheme&, int64_t length) const override {
    return range_refuses(settings_.range, length);
  }

  std::vector<SolveResult> solve(const SharedInputProblem& problem) const override {
    std::vector<SolveResult> results;
    for (const LinearProblem& linear : problem.linears) results.push_back(solve(linear, problem.stats));
    return results;
  }

 private:
  SolveResult solve(const LinearProblem& linear, const InputStats* stats) const {
    throw_if_cancelled();
    const int64_t out = linear.weight.size(0), in = linear.weight.size(1);
    for (const auto& reason : {hqq_refuses(linear.scheme), linear.scheme.problem(out, in)}) {
      if (reason) user_error("{}: {}", linear.name, *reason);
    }
    const at::Tensor groups = to_group_rows(linear.weight, linear.scheme);
    const GroupRange range = start_range(linear, stats, groups, settings_.range);
    const at::Tensor weights_finite = at::isfinite(range.lo).logical_and_(at::isfinite(range.hi));
    if (!weights_finite.all().item<bool>()) refuse_weight(linear, weights_finite);
    kernels::HqqChoice iteration = settings_.iteration;
    iteration.optimise_scale =
        settings_.scale == ScaleFit::fitted ||
        (settings_.scale == ScaleFit::automatic && !linear.range && !linear.transformed);
    iteration.round_start =
        settings_.round_zero == "always" || (settings_.round_zero == "auto" && linear.scheme.bits == 4);
    const kernels::HqqResult found =
        kernels::hqq(groups, range, linear.scheme, linear.scale_dtype, iteration);
    const at::Tensor grids_finite = at::isfinite(found.scales).logical_and_(at::isfinite(found.zero_points));
    if (!grids_finite.all().item<bool>()) refuse_scale(linear, range, grids_finite);
    const auto parameters = linear.scheme.parameter_shape(out, in);
    QuantizedTensor result{linear.scheme, linear.scale_dtype,
                           from_group_rows(found.codes, linear.scheme, out, in),
                           found.scales.view(parameters), found.zero_points.view(parameters)};
    if (!linear.scheme.real_zero) result.zero_points = result.zero_points.to(at::kChar);
    return {std::move(result), {}};
  }

  Settings settings_;
};

ScaleFit scale_fit(const std::string& word) {
  if (word == "auto") return ScaleFit::automatic;
  return word == "fitted" ? ScaleFit::fitted : ScaleFit::fixed;
}

std::vector<OptionSpec> make_options() {
  std::vector<OptionSpec> options = {
      {"lp_norm", 0.7, "p of the norm that is minimised; 1 and less counts large errors less", 0.1, 1, {}},
      {"beta", 10.0, "weight of the quadratic term at the start", 1e-3, 1e6, {}},
      {"kappa", 1.01, "factor of beta from one iteration to the next", 1, 10, {}},
      {"iterations",
       int64_t{20},
       "at most this many steps",
       0,
       static_cast<double>(kernels::hqq_max_iterations()),
       {}},
      {"early_stop", true, "a group is done when a step lowers its error no more", 0, 0, {}},
      {"scale",
       std::string("auto"),
       "fitted: the scale is fitted along with the zero point; fixed: only the zero point, as in the paper; "
       "auto: fitted, but fixed after a transform",
       0,
       0,
       {"auto", "fixed", "fitted"}},
      {"round_zero",
       std::string("auto"),
       "whether real zero points start from an integer, which holds 0 exactly; auto: with 4 bits, as the "
       "library does",
       0,
       0,
       {"auto", "always", "never"}},
  };
  options.insert(options.end(), range_options().begin(), range_options().end());
  return options;
}

}  // namespace

const std::vector<OptionSpec>& hqq_options() {
  static const std::vector<OptionSpec> options = make_options();
  return options;
}

std::unique_ptr<Solver> make_hqq(const Options& options) {
  return std::make_unique<Hqq>(Settings{range_choice(options),
                                        scale_fit(options.word("scale")),
                                        options.word("round_zero"),
                                        {.lp_norm = options.number("lp_norm"),
                                         .beta = options.number("beta"),
                                         .kappa = options.number("kappa"),
                                         .iterations = options.integer("iterations"),
                                         .early_stop = options.flag("early_stop")}});
}

std::optional<std::string> hqq_refuses(const Scheme& scheme) {
  if (scheme.floating()) return kNoGrid;
  if (scheme.float_grid() != nullptr) return kIntegersOnly;
  if (scheme.scale_grid) return "its scales are plain numbers; leave out `scale_bits`, or use solver spqr";
  if (!scheme.symmetric) return std::nullopt;
  return "it fits zero points, and a symmetric grid has none; use `symmetric: false`";
}

}  // namespace lathe
