#include "formats/verify/fold_match.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "formats/targets/float_reader.h"
#include "formats/verify/numbers.h"

namespace lathe {
namespace {

constexpr double kTellingError = 0.05;  // of a channel: its squared error in parts of its square
/// Of one channel. AWQ with GPTQ in 3 and 4 bits reaches 0.09 at a norm, 0.24 between rows and columns
/// (SmolLM2-135M, lathe-tiny).
constexpr double kTolerance = 0.3, kNormTolerance = 0.18;
/// Of all of a linear: codes of few bits make it smaller by their error.
constexpr double kSizeTolerance = 0.2;
/// Of a norm's channels in the quadratic mean: a part of what rounding alone makes of a column's factor,
/// whose error has the column's relative error over the square root of its rows; that reaches four there, and
/// what 16-bit norms round.
constexpr double kNoises = 6, kNormRounding = 0.002;
/// Of rows and columns in the quadratic mean: 0.06 is reached, most of it by all channels together.
constexpr double kRowsTolerance = 0.15;

/// Factors of a matrix's rows or columns, Float, their relative squared errors, Double, and which of them
/// tell anything, Bool.
struct Factors {
  at::Tensor values, errors, telling;

  bool tell() const { return telling.any().item<bool>(); }
  double median() const { return values.masked_select(telling).median().item<double>(); }
};
struct Sides {
  Factors rows, columns;
};

Factors factors(const at::Tensor& values, const at::Tensor& errors) {
  return {values, errors, errors < kTellingError};  // false for a NaN, of a channel of zeros
}
Factors ones(int64_t count) { return factors(at::ones({count}), at::zeros({count}, at::kDouble)); }

class FoldMatch {
 public:
  FoldMatch(const FoldedModel& model, const std::map<std::string, WeightDistance>& distances)
      : model_(model), distances_(distances) {}

  Findings run() {
    for (const Block& block : model_.graph.blocks) {
      for (const ScaleEdge& edge : block.edges) {
        if (edge.producer_kind == ScaleEdge::Producer::norm) check_norm(block, edge);
      }
      for (const ScaleEdge& edge : block.edges) {
        if (edge.producer_kind == ScaleEdge::Producer::linear && edge.closed.empty()) check_rows(block, edge);
      }
    }
    return std::move(findings_);
  }

 private:
  void add(std::string place, std::string expected, double found) {
    findings_.push_back(
        {check::folded, std::move(place), std::move(expected), fmt::format("{:.3g} times that", found)});
  }

  /// Nothing where a quantised linear was not fitted, or left too little to be.
  std::optional<Sides> sides_of(const Linear& linear) const {
    const auto found = distances_.find(linear.name);
    if (found == distances_.end()) {
      if (!model_.untouched(linear.name)) return std::nullopt;
      return Sides{ones(linear.out), ones(linear.in)};
    }
    const WeightDistance& distance = found->second;
    if (!distance.columns.defined()) return std::nullopt;
    Sides sides{factors(distance.rows, distance.row_errors),
                factors(distance.columns, distance.column_errors)};
    return sides.rows.tell() && sides.columns.tell() ? std::optional(sides) : std::nullopt;
  }

  /// What a norm's channels were multiplied by.
  at::Tensor norm_share(const Block& block, const ScaleEdge& edge) const {
    const auto norms = block.norms();
    const auto norm = std::ranges::find(norms, edge.producer, &Norm::name);
    const at::Tensor after = model_.after(edge.producer + ".weight");
    if (norm == norms.end() || !after.defined()) return {};
    const at::Tensor before = model_.before(edge.producer + ".weight");
    return (*norm)->one_plus ? (after + 1) / (before + 1) : after / before;
  }

  void check_norm(const Block& block, const ScaleEdge& edge) {
    const at::Tensor share = norm_share(block, edge);
    if (!share.defined()) return;
    bool looked = false;
    for (const Linear* linear : block.consumers(edge)) {
      const auto sides = sides_of(*linear);
      if (!sides) continue;
      Factors product = sides->columns;
      product.values = share * product.values;
      common_[linear->name] = product.median();
      if (!looked) check_channels(edge, *linear, product);  // the same columns in all of them
      looked = true;
      if (!produces(block, linear->name)) check_size(*linear, common_[linear->name] * sides->rows.median());
    }
  }

  /// Of each channel, beside the others'.
  void check_channels(const ScaleEdge& edge, const Linear& linear, const Factors& product) {
    const at::Tensor parts = product.values / product.median();
    const at::Tensor bad = outside(parts, kNormTolerance).logical_and(product.telling);
    const std::string expected =
        fmt::format("divided by what the columns of {} were multiplied by", linear.name);
    if (bad.any().item<bool>()) {
      add(fmt::format("{}.weight: channel {}", edge.producer, first_index(bad)), expected,
          parts.masked_select(bad)[0].item<double>());
    } else {
      const double error = product.errors.masked_select(product.telling).mean().item<double>();
      const double noise = std::sqrt(error / static_cast<double>(linear.out));
      check_all(edge.producer + ".weight: all channels", expected, parts, product.telling,
                kNoises * noise + kNormRounding);
    }
  }

  /// Each may be within what rounding leaves uncertain, and all of them not.
  void check_all(std::string place, std::string expected, const at::Tensor& products,
                 const at::Tensor& telling, double tolerance) {
    const double mean = (products.masked_select(telling) - 1).square().mean().sqrt().item<double>();
    if (mean <= tolerance) return;
    findings_.push_back({check::folded, std::move(place), std::move(expected),
                         fmt::format("{:.2g} off that in the quadratic mean", mean)});
  }

  /// All of a linear that has no rows folded.
  void check_size(const Linear& linear, double factor) {
    if (std::abs(factor - 1) <= kSizeTolerance) return;
    add(linear.name, "the model's weights times what the norm before it was divided by", factor);
  }

  static bool produces(const Block& block, const std::string& linear) {
    return std::ranges::any_of(block.edges, [&](const ScaleEdge& edge) { return edge.producer == linear; });
  }

  at::Tensor outside(const at::Tensor& product, double tolerance = kTolerance) const {
    if (!model_.by_channel) return at::zeros_like(product, at::kBool);
    return (product - 1).abs().le(tolerance).logical_not();  // a NaN is outside
  }

  /// A linear's rows with the columns of the one that reads them.
  void check_rows(const Block& block, const ScaleEdge& edge) {
    const auto producer = std::ranges::find(block.linears, edge.producer, &Linear::name);
    const std::vector<const Linear*> consumers = block.consumers(edge);
    if (producer == block.linears.end() || consumers.empty()) return;
    const Linear& consumer = *consumers.front();
    const auto from = sides_of(*producer), to = sides_of(consumer);
    if (!from || !to) return;
    const auto common = common_.find(producer->name);
    const double own = common != common_.end() ? common->second : from->columns.median();
    const at::Tensor columns = to->columns.values * to->rows.median();
    const at::Tensor product = by_column(edge, consumer, from->rows.values) * own * columns;
    const at::Tensor telling = by_column(edge, consumer, from->rows.telling).logical_and(to->columns.telling);
    const at::Tensor bad = outside(product).logical_and(telling);
    if (bad.any().item<bool>()) {
      add(fmt::format("{}: row of channel {}", producer->name, first_index(bad)),
          fmt::format("divided by what that column of {} was multiplied by", consumer.name),
          product.masked_select(bad)[0].item<double>());
    } else if (telling.any().item<bool>()) {
      check_all(producer->name + ": rows of all channels",
                fmt::format("divided by what the columns of {} were multiplied by", consumer.name), product,
                telling, kRowsTolerance);
    }
    if (producer->bias) check_bias(edge, *producer, consumer, columns, to->columns.telling);
  }

  void check_bias(const ScaleEdge& edge, const Linear& producer, const Linear& consumer,
                  const at::Tensor& columns, const at::Tensor& telling) {
    const std::string name = producer.name + ".bias";
    const at::Tensor after = model_.after(name);
    if (!after.defined()) return;
    const at::Tensor before = model_.before(name);
    const at::Tensor product = by_column(edge, consumer, after / before) * columns;
    const at::Tensor bad =
        outside(product).logical_and(telling).logical_and(by_column(edge, consumer, before.ne(0)));
    if (!bad.any().item<bool>()) return;
    add(fmt::format("{}: channel {}", name, first_index(bad)),
        fmt::format("divided by what that column of {} was multiplied by", consumer.name),
        product.masked_select(bad)[0].item<double>());
  }

  /// Of the producer's rows, the one that each column of the consumer reads (ScaleEdge).
  static at::Tensor by_column(const ScaleEdge& edge, const Linear& consumer, const at::Tensor& rows) {
    const at::Tensor read = rows.slice(0, edge.first_row, edge.first_row + consumer.in / edge.repeat);
    if (edge.repeat == 1) return read;
    return read.view({-1, 1, edge.head_dim}).expand({-1, edge.repeat, edge.head_dim}).reshape({-1});
  }

  const FoldedModel& model_;
  const std::map<std::string, WeightDistance>& distances_;
  std::map<std::string, double>
      common_;  // by linear behind a norm: the number that its rows and columns share
  Findings findings_;
};

}  // namespace

std::vector<std::string> linears_on_edges(const ModelGraph& graph) {
  std::vector<std::string> names;
  for (const Block& block : graph.blocks) {
    for (const ScaleEdge& edge : block.edges) {
      if (!edge.closed.empty()) continue;
      if (edge.producer_kind == ScaleEdge::Producer::linear) names.push_back(edge.producer);
      for (const Linear* linear : block.consumers(edge)) names.push_back(linear->name);
    }
  }
  return names;
}

bool may_be_folded(const ModelGraph& graph, const std::string& tensor) {
  for (const Block& block : graph.blocks) {
    for (const ScaleEdge& edge : block.edges) {
      if (tensor == edge.producer + ".weight" || tensor == edge.producer + ".bias") return true;
      for (const Linear* linear : block.consumers(edge))
        if (tensor == linear->name + ".weight") return true;
    }
  }
  return false;
}

Findings check_fold_match(const FoldedModel& model, const std::map<std::string, WeightDistance>& distances) {
  return FoldMatch(model, distances).run();
}

}  // namespace lathe
