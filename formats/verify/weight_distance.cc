#include "formats/verify/weight_distance.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "formats/verify/numbers.h"
#include "lib/base/cancel.h"

namespace lathe {
namespace {

/// Values that stand in memory in FP32 at a time.
constexpr int64_t kPieceValues = int64_t{1} << 18;
/// Rounds of the fit: each makes what rows and columns still mix up about as many times smaller as there are
/// rows.
constexpr int kFits = 4;
/// A group looks damaged where its errors are one shift, this part of them, as a wrong zero point makes it,
/// ...
constexpr double kShift = 0.9;
/// ... or where they are so many times the weights (its own, or what the matrix or its row has in the mean):
/// a wrong scale, or other weights. Error feedback may move weights that hardly matter by more than they are,
/// but not all of a row; and in a row that has one huge weight, the others make up for what that one's input
/// is off, by far more than they are.
constexpr double kMostOfGroup = 16, kMostOfRow = 0.25;
constexpr int64_t kRowLength = 256;  // parts of a row of so many weights and more count as rows
/// Of what is allowed: nobody who isn't damaged or folded is further away, but for inputs that are all alike.
constexpr double kNear = 0.25;
/// Of the mean error of a matrix, in steps of its groups. Rounding errs as much to one side as to the other,
/// and so does what makes up for it.
constexpr double kMostBias = 0.5;
/// Rounding to nearest leaves weights as large as they were, what is chosen for the least error makes them
/// smaller by as much: so many times what is predicted of their squares is allowed beside the limits of
/// gains.
constexpr double kLessByPrediction = 1.5, kMoreByPrediction = 1;

/// a / b, 1 where b is 0.
at::Tensor ratio(const at::Tensor& a, const at::Tensor& b) {
  return at::where(b > 0, a / b, at::ones_like(a));
}

/// Float [n, groups], the squared error that rounding these rows to nearest makes in each group, on average.
/// grouped: Float [n, groups, length].
at::Tensor predicted(const StoredWeight& weight, const at::Tensor& grouped) {
  const auto length = static_cast<double>(grouped.size(2));
  const at::Tensor shared = at::full({grouped.size(0), grouped.size(1)}, weight.largest_scale);
  if (weight.number) {
    const FloatFormat& format = *weight.number;
    // A power of two as scale may be twice what the range asks for.
    const double finest =
        std::ldexp(weight.power_of_two ? 2.0 : 1.0, format.smallest_exponent() - format.mantissa_bits);
    const at::Tensor scale = weight.largest_scale > 0 ? shared : grouped.abs().amax(-1).div_(format.largest);
    return grouped.square()
        .sum(-1)
        .mul_(std::ldexp(1.0, -2 * format.mantissa_bits))
        .add_(scale.mul(finest).square_().mul_(length))
        .div_(12);
  }
  at::Tensor step = shared;
  if (weight.largest_scale == 0 && weight.steps > 0) {
    step = weight.symmetric ? grouped.abs().amax(-1).mul_(2)
                            : grouped.amax(-1).clamp_min_(0).sub_(grouped.amin(-1).clamp_max_(0));
    step.div_(weight.steps);
  }
  return step.square().mul_(length / 12);
}

/// Of a matrix: sums over its groups, then means.
struct GroupMeans {
  int64_t groups = 0;
  double predicted = 0, energy = 0;
};

/// The few groups that may look damaged, so that not all need to stand in memory until the means are known.
class Suspects {
 public:
  /// The next rows' squared errors, predictions, squares of weights and of shifts, Float [n, groups].
  void add(const at::Tensor& wrong, const at::Tensor& allowed, const at::Tensor& energy,
           const at::Tensor& shift, double limit) {
    if (!std::isfinite(limit)) return;
    const at::Tensor shifted = shift.ge(wrong * kShift);
    const at::Tensor places =  // means only raise what is allowed; a NaN is not below
        wrong.le(allowed * limit)
            .logical_or_(wrong.le(energy * kMostOfRow).logical_and_(shifted.logical_not()))
            .logical_not_()
            .nonzero();
    if (places.size(0) > 0) {
      const auto at_places = [&](const at::Tensor& each) {
        return each.index({places.select(1, 0), places.select(1, 1)}).to(at::kDouble);
      };
      const at::Tensor of_row = energy.mean(-1, true).expand_as(energy);
      found_.push_back(at::stack({places.select(1, 0).to(at::kDouble) + static_cast<double>(rows_),
                                  places.select(1, 1).to(at::kDouble), at_places(wrong), at_places(allowed),
                                  at_places(at::maximum(energy, of_row)), at_places(shifted)}));
    }
    rows_ += wrong.size(0);
  }

  /// Into worst_group and its place. `most`: squared error in parts of the weights' squares.
  void judge(const GroupMeans& means, double most, WeightDistance& result) const {
    if (found_.empty()) return;
    const at::Tensor all = at::cat(found_, 1);
    const at::Tensor wrong = all[2];
    const at::Tensor whole = wrong.le(all[4].clamp_min(means.energy) * most).logical_and_(all[5].eq(0));
    const at::Tensor parts =
        at::where(whole, at::zeros_like(wrong), wrong / all[3].clamp_min(std::max(means.predicted, 1e-37)));
    const int64_t worst = parts.argmax().item<int64_t>();
    result.worst_group = parts[worst].item<double>();
    result.worst_row = all[0][worst].to(at::kLong).item<int64_t>();
    result.worst_place = all[1][worst].to(at::kLong).item<int64_t>();
  }

 private:
  int64_t rows_ = 0;
  std::vector<at::Tensor> found_;  // Double [6, n]
};

/// One linear with its original.
class Comparison {
 public:
  Comparison(const StoredWeight& weight, const MatrixRows& original)
      : weight_(weight), original_(original), columns_(at::ones({weight.columns}, at::kFloat)) {}

  /// Fits the columns' factors once more: with rows' factors of their own, from the second time on.
  void fit() {
    at::Tensor product = at::zeros({weight_.columns}, at::kDouble), square = at::zeros_like(product);
    for_rows([&](const at::Tensor& values, at::Tensor original) {
      if (fitted_) original = original * row_factors(values, original);
      product.add_((values * original).sum(0, false, at::kDouble));
      square.add_(original.square().sum(0, false, at::kDouble));
    });
    columns_ = ratio(product, square).to(at::kFloat);
    fitted_ = true;
  }

  /// Channels that are 0 in all rows, because they carried no signal, count no more. True where there are
  /// such.
  bool leave_out_dead_channels() {
    at::Tensor live = at::zeros({weight_.columns}, at::kBool);
    for_rows([&](const at::Tensor& values, const at::Tensor&) { live.logical_or_(values.ne(0).any(0)); });
    if (live.all().item<bool>() || !live.any().item<bool>()) return false;
    live_ = live.to(at::kFloat);
    return true;
  }

  WeightDistance measure(FlattenedGroups* flattened) {
    WeightDistance result;
    double error = 0, reference = 0, product = 0, square = 0;
    bias_ = 0;
    GroupMeans means;
    Suspects suspects;
    at::Tensor column_errors = at::zeros({weight_.columns}, at::kDouble),
               squared = at::zeros_like(column_errors);
    // What is kept of rows has its place from the beginning: a piece of it between what the next rows take
    // and let go would keep the allocator from using that place again, and memory would grow with the rows.
    const auto of_rows = [&](bool wanted, at::ScalarType type) {
      return at::empty({wanted ? weight_.rows : 0}, type);
    };
    at::Tensor rows = of_rows(fitted_, at::kFloat), row_errors = of_rows(fitted_, at::kDouble),
               gains = of_rows(!fitted_, at::kDouble), row_squares = of_rows(!fitted_, at::kDouble),
               row_predicted = of_rows(!fitted_, at::kDouble);
    int64_t first = 0;
    for_rows([&](const at::Tensor& values, const at::Tensor& original) {
      const auto here = [&, count = values.size(0)](const at::Tensor& all) {
        return all.narrow(0, first, count);
      };
      if (flattened != nullptr) flattened->add(values, original);
      const at::Tensor factors = fitted_ ? row_factors(values, original) : at::Tensor();
      const at::Tensor meant = fitted_ ? original * columns_ * factors : original;
      const at::Tensor squares = (values - meant).square_();
      if (live_.defined()) squares.mul_(live_);
      error += squares.sum(at::kDouble).item<double>();
      reference += meant.square().sum(at::kDouble).item<double>();
      if (!fitted_) {
        const at::Tensor left = live_.defined() ? meant * live_ : meant;
        const at::Tensor products = (values * left).sum(1, false, at::kDouble);
        const at::Tensor squares_left = left.square().sum(1, false, at::kDouble);
        product += products.sum().item<double>();
        square += squares_left.sum().item<double>();
        here(gains).copy_(ratio(products, squares_left));
        here(row_squares).copy_(squares_left);
      } else {
        column_errors.add_(squares.sum(0, false, at::kDouble));
        const at::Tensor energies = meant.square();
        squared.add_(energies.sum(0, false, at::kDouble));
        here(rows).copy_(factors.flatten());
        here(row_errors).copy_(squares.sum(1, false, at::kDouble) / energies.sum(1, false, at::kDouble));
      }
      const at::Tensor grouped = weight_.grouping.by_group(meant);
      const at::Tensor off = weight_.grouping.by_group(values) - grouped;
      const at::Tensor allowed = predicted(weight_, grouped), energy = grouped.square().sum(-1);
      add_bias(off, allowed);
      if (!fitted_) here(row_predicted).copy_(allowed.sum(1, false, at::kDouble));
      suspects.add(weight_.grouping.by_group(squares).sum(-1), allowed, energy,
                   off.mean(-1).square_().mul_(static_cast<double>(off.size(2))), weight_.limits.worst_group);
      means.groups += allowed.numel();
      means.predicted += allowed.sum(at::kDouble).item<double>();
      means.energy += energy.sum(at::kDouble).item<double>();
      first += values.size(0);
    });
    const auto part = [](double a, double b) { return a == 0 ? 0 : a / b; };
    result.relative = part(error, reference);
    bias_ /= static_cast<double>(weight_.rows * weight_.columns);
    result.of_predicted = part(error, means.predicted);
    result.predicted = part(means.predicted, means.energy);
    if (!fitted_) {
      result.gain = square == 0 ? 1 : product / square;
      judge_rows(gains, ratio(row_predicted, row_squares), result);
    }
    means.predicted /= static_cast<double>(means.groups);
    means.energy /= static_cast<double>(means.groups);
    const bool as_rows = weight_.grouping.length >= std::min(kRowLength, weight_.columns);
    suspects.judge(means, as_rows ? kMostOfRow : kMostOfGroup, result);
    if (fitted_) {
      result.columns = columns_;
      result.column_errors = column_errors / squared;
      result.rows = rows;
      result.row_errors = row_errors;
    }
    return result;
  }

  /// The mean error of what was measured last, in steps; 0 for floating-point numbers, whose steps differ.
  double bias() const { return bias_; }

 private:
  /// errors: Float [n, groups, length].
  void add_bias(const at::Tensor& errors, const at::Tensor& expected) {
    if (weight_.number || weight_.steps == 0) return;
    const at::Tensor step = (expected * (12.0 / static_cast<double>(errors.size(2)))).sqrt_();
    bias_ += at::where(step > 0, errors.sum(-1) / step, at::zeros_like(step)).sum(at::kDouble).item<double>();
  }

  /// The row whose gain is furthest from what is allowed of it.
  void judge_rows(const at::Tensor& gains, const at::Tensor& predicted, WeightDistance& result) const {
    const double limit = weight_.limits.row_gain;
    const at::Tensor outside = at::maximum(1 / limit - kLessByPrediction * predicted - gains,
                                           gains - limit - kMoreByPrediction * predicted);
    result.row_of_gain = outside.argmax().item<int64_t>();
    result.row_gain = gains[result.row_of_gain].item<double>();
    result.row_predicted = predicted[result.row_of_gain].item<double>();
  }

  template <class Use>
  void for_rows(Use&& use) const {
    const int64_t step = std::max<int64_t>(1, kPieceValues / weight_.columns);
    for (int64_t begin = 0; begin < weight_.rows; begin += step) {
      throw_if_cancelled();
      const int64_t end = std::min(begin + step, weight_.rows);
      use(weight_.values(begin, end), original_(begin, end));
    }
  }

  /// Float [n, 1].
  at::Tensor row_factors(const at::Tensor& values, const at::Tensor& original) const {
    const at::Tensor meant = original * columns_;
    return ratio((values * meant).sum(1, true), meant.square().sum(1, true));
  }

  const StoredWeight& weight_;
  const MatrixRows& original_;
  at::Tensor columns_;
  double bias_ = 0;
  at::Tensor live_;  // Float [in], 0 or 1; undefined: all count
  bool fitted_ = false;
};

bool is_gain(double gain, double limit, double predicted) {
  if (std::isinf(limit)) return true;
  return gain >= 1 / limit - kLessByPrediction * predicted && gain <= limit + kMoreByPrediction * predicted;
}

/// Written so that a NaN is not.
bool within(const WeightDistance& distance, const DistanceLimits& limits) {
  return distance.relative <= limits.relative &&
         (distance.of_predicted <= limits.of_predicted || distance.relative <= limits.negligible) &&
         distance.worst_group <= limits.worst_group &&
         is_gain(distance.gain, limits.gain, distance.predicted) &&
         is_gain(distance.row_gain, limits.row_gain, distance.row_predicted);
}

}  // namespace

// The most that the shipped recipes and their options of 2 to 8 bits reach on the embedded model, of a matrix
// and of a group: RTN 1.01 and 1.4, with searched ranges and HQQ 0.9 and 1.6, AWQ's clip 5.7 and 11, GPTQ 3.5
// and 23, with groups that are chosen when they are reached 3.5 and 94, SpQR 1.8 and 180 (a row's scale is a
// code on the grid of 16 rows); on SmolLM2-135M AWQ + GPTQ 7.9 and 2112, in a row of down_proj that writes
// the channel of massive activations: such a group doesn't look damaged (kMostOfGroup). Error feedback has no
// bound of its own: the more alike inputs are, the further weights move (8.8 where single channels are a
// hundred times as large as others), and weights that hardly matter may move by more than they are, so there
// is room for more. A range may clip, too: with 8 bits and `range: kl` that is 41 times the little that
// rounding loses, 0.4 % of the weights. What this leaves unseen, zero points that are off by one, errs to one
// side (kMostBias); another matrix on a grid of few steps keeps nothing of the weights (relative); scales of
// a linear or a row that are too large or small show in its gain. Of a matrix that is 0.93 at the least at 4
// bits, 0.87 at 3 and 0.79 where some have 2, and 1.003 at the most (GPTQ, SmolLM2-135M), of a row 0.88,
// 0.77, 0.70 and 1.11 (rounding to 2 bits).
DistanceLimits limits_of_codes() {
  return {.relative = 0.9,
          .of_predicted = 32,
          .worst_group = 256,
          .gain = 1.15,
          .row_gain = 1.4,
          .negligible = 0.01};
}

StoredWeight stored_weight(const std::string& linear, const QuantizedTensor& tensor) {
  const Scheme& scheme = tensor.scheme;
  StoredWeight weight{
      .name = linear,
      .scheme = scheme.describe(),
      .rows = tensor.rows(),
      .columns = tensor.cols(),
      .grouping = grouping_of(tensor),
      .values = [&tensor](int64_t begin, int64_t end) { return tensor.dequantize_rows(begin, end); },
      .symmetric = scheme.symmetric,
      .limits = limits_of_codes()};
  if (scheme.has_values()) {  // nothing is rounded but to the values' type
    weight.limits = {.relative = 1e-4};
    return weight;
  }
  if (const FloatGridType* const grid = scheme.float_grid()) {
    weight.number = grid->number;
    weight.power_of_two = grid->scales == FloatGridType::Scales::e8m0;
  } else {
    weight.steps = scheme.qmax() - scheme.qmin();
  }
  // Rows that share scales may lose all they hold: SpQR's, as above, and small ones beside large ones.
  if (scheme.scale_grid || scheme.axis == 0 || scheme.shares_rows())
    weight.limits.row_gain = std::numeric_limits<double>::infinity();
  if (scheme.axis == 0 || scheme.shares_rows()) weight.largest_scale = tensor.scales.max().item<double>();
  return weight;
}

WeightCheck check_weight(const StoredWeight& weight, const MatrixRows& original, Folds folds) {
  const DistanceLimits& limits = weight.limits;
  FlattenedGroups flattened(weight.grouping);
  Comparison comparison(weight, original);
  WeightCheck result{comparison.measure(&flattened), {}};
  result.findings = flattened.findings(weight.name);
  if (!within(result.distance, limits) && comparison.leave_out_dead_channels())
    result.distance = comparison.measure(nullptr);
  // A fit goes on until it is as near as solvers come: what it says of the columns is used, too.
  const auto near = [&] {
    return within(result.distance, limits) && result.distance.of_predicted <= limits.of_predicted * kNear;
  };
  for (int k = 0; folds != Folds::none && k < kFits; ++k) {
    if (near() && (folds == Folds::possible || k > 1)) break;
    comparison.fit();
    result.distance = comparison.measure(nullptr);
  }
  const WeightDistance& distance = result.distance;
  if (within(distance, limits)) {
    if (!(std::abs(comparison.bias()) <= kMostBias)) {
      result.findings.push_back({check::distance, weight.name,
                                 fmt::format("errors to both sides, a mean within {:g} of a step", kMostBias),
                                 fmt::format("{:.3g} of a step", comparison.bias())});
    }
    return result;
  }
  if (!(distance.relative <= limits.relative)) {
    result.findings.push_back({check::distance, weight.name,
                               fmt::format("a squared error of at most {:g} of the weights", limits.relative),
                               fmt::format("{:.4g}", distance.relative)});
  } else if (!(distance.of_predicted <= limits.of_predicted) && distance.relative > limits.negligible) {
    result.findings.push_back(
        {check::distance, weight.name,
         fmt::format("a squared error of at most {:g} times what {} predicts", limits.of_predicted,
                     weight.scheme),
         fmt::format("{:.4g} times ({:.4g} of the weights)", distance.of_predicted, distance.relative)});
  } else if (!(distance.worst_group <= limits.worst_group)) {
    result.findings.push_back(
        {check::distance,
         fmt::format("{}: row {}, group {}", weight.name, distance.worst_row, distance.worst_place),
         fmt::format("a squared error of at most {:g} times what {} predicts of a group", limits.worst_group,
                     weight.scheme),
         fmt::format("{:.4g} times", distance.worst_group)});
  } else {
    const bool all = !is_gain(distance.gain, limits.gain, distance.predicted);
    result.findings.push_back(
        {check::distance, all ? weight.name : fmt::format("{}: row {}", weight.name, distance.row_of_gain),
         fmt::format("weights as large as the model's, within {:.2f} times",
                     all ? limits.gain : limits.row_gain),
         fmt::format("{:.3g} times as large", all ? distance.gain : distance.row_gain)});
  }
  return result;
}

}  // namespace lathe
