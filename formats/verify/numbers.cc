#include "formats/verify/numbers.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <limits>

#include "formats/targets/float_reader.h"

namespace lathe {
namespace {

/// Collects what is wrong with one linear.
class Numbers {
 public:
  Numbers(const std::string& linear, const QuantizedTensor& tensor) : linear_(linear), tensor_(tensor) {}

  Findings check() {
    const bool coded = tensor_.second_level.has_value();
    scales(tensor_.scales, coded);
    if (tensor_.global_scale.defined())
      scales(tensor_.global_scale.reshape({1}), false, "the tensor's scale");
    zero_points();
    codes();
    groups();
    outliers();
    return std::move(findings_);
  }

 private:
  /// `good`: Bool, as `values`.
  void require(const char* what, const at::Tensor& values, const at::Tensor& good,
               const std::string& expected) {
    if (good.all().item<bool>()) return;  // to count takes eight bytes a value
    const at::Tensor bad = good.logical_not();
    const int64_t count = bad.sum().item<int64_t>();
    findings_.push_back({check::numbers, fmt::format("{}: {} at {}", linear_, what, first_index(bad)),
                         expected,
                         fmt::format("{:g}{}", values.masked_select(bad)[0].item<double>(),
                                     count > 1 ? fmt::format(", and {} more like it", count - 1) : "")});
  }

  void scales(const at::Tensor& scales, bool coded, const char* what = "scale") {
    const double least = coded ? 0 : std::numeric_limits<float>::min();
    require(what, scales, at::isfinite(scales).logical_and(scales >= least),
            coded ? "a finite number, not negative" : "a finite number above 0, no subnormal one");
  }

  void zero_points() {
    const at::Tensor& zeros = tensor_.zero_points;
    if (!zeros.defined()) return;
    if (tensor_.scheme.symmetric) {
      require("zero point", zeros, zeros.eq(0), "0, of a symmetric grid");
    } else if (zeros.is_floating_point()) {
      require("zero point", zeros, at::isfinite(zeros), "a finite number");
    } else {
      require("zero point", zeros,
              zeros.ge(tensor_.scheme.qmin()).logical_and(zeros <= tensor_.scheme.qmax()),
              fmt::format("{} to {}", tensor_.scheme.qmin(), tensor_.scheme.qmax()));
    }
  }

  void codes() {
    const at::Tensor& codes = tensor_.codes;
    if (const FloatGridType* const grid = tensor_.scheme.float_grid()) {
      if (grid->number.name != kE4M3.name) return;  // every code of the others is a number
      require("code", codes, codes.bitwise_and(0x7f).ne(0x7f), "a number of E4M3");
      return;
    }
    const auto [low, high] = at::aminmax(codes);
    if (low.item<int>() >= tensor_.scheme.qmin() && high.item<int>() <= tensor_.scheme.qmax()) return;
    require("code", codes, codes.ge(tensor_.scheme.qmin()).logical_and(codes <= tensor_.scheme.qmax()),
            fmt::format("{} to {}", tensor_.scheme.qmin(), tensor_.scheme.qmax()));
  }

  void groups() {
    if (!tensor_.group_index.defined()) return;
    const int64_t count = tensor_.scheme.groups(tensor_.cols());
    const at::Tensor sizes = tensor_.group_index.to(at::kLong).bincount({}, count);
    require("columns of group", sizes, sizes.eq(tensor_.scheme.group_length(tensor_.cols())),
            std::to_string(tensor_.scheme.group_length(tensor_.cols())));
  }

  void outliers() {
    if (!tensor_.outliers) return;
    const Outliers& outliers = *tensor_.outliers;
    require("outlier", outliers.values, at::isfinite(outliers.values), "a finite number");
    const at::Tensor ends = outliers.row_offsets[-1].reshape({1});
    require("outliers of all rows", ends, ends.eq(outliers.count()), std::to_string(outliers.count()));
  }

  const std::string& linear_;
  const QuantizedTensor& tensor_;
  Findings findings_;
};

}  // namespace

Findings check_numbers(const std::string& linear, const QuantizedTensor& tensor) {
  return Numbers(linear, tensor).check();
}

Grouping grouping_of(const QuantizedTensor& tensor) {
  const Scheme& scheme = tensor.scheme;
  if (scheme.axis == 0 || scheme.shares_rows() || scheme.has_values()) return {tensor.cols(), {}};
  Grouping grouping{scheme.group_length(tensor.cols()), {}};
  if (tensor.group_index.defined()) grouping.order = at::argsort(tensor.group_index, /*stable=*/true, 0);
  return grouping;
}

at::Tensor Grouping::by_group(const at::Tensor& rows) const {
  const at::Tensor ordered = order.defined() ? rows.index_select(1, order) : rows;
  return ordered.reshape({rows.size(0), -1, length});
}

void FlattenedGroups::add(const at::Tensor& values, const at::Tensor& original) {
  const at::Tensor live = values.ne(0).any(0);
  live_columns_ = live_columns_.defined() ? live_columns_.logical_or(live) : live;
  const at::Tensor zeros = values.eq(0).all(1).logical_and_(original.ne(0).any(1));
  zero_rows_.add(zeros.unsqueeze(1), seen_);
  const auto flat = [&](const at::Tensor& rows) {
    const at::Tensor grouped = grouping_.by_group(rows);
    return grouped.eq(grouped.narrow(2, 0, 1)).all(-1);
  };
  flat_groups_.add(
      flat(values).logical_and_(flat(original).logical_not_()).logical_and_(zeros.logical_not().unsqueeze(1)),
      seen_);
  seen_ += values.size(0);
}

void FlattenedGroups::Places::add(const at::Tensor& bad, int64_t seen) {
  const at::Tensor places = at::where(bad.any(0), bad.to(at::kByte).argmax(0) + seen, kNone);
  const at::Tensor more = bad.sum(0);
  counts = counts.defined() ? counts + more : more;
  first_rows = first_rows.defined() ? at::minimum(first_rows, places) : places;
}

Findings FlattenedGroups::findings(const std::string& linear) const {
  Findings findings;
  if (seen_ == 0) return findings;
  const auto say = [&](const char* what, const Places& bad, const at::Tensor& counted, bool place,
                       const char* found) {
    const int64_t count = bad.counts.masked_select(counted).sum().item<int64_t>();
    if (count == 0) return;
    const at::Tensor rows = bad.first_rows.masked_fill(counted.logical_not(), kNone);
    const int64_t at = rows.argmin().item<int64_t>(), row = rows[at].item<int64_t>();
    findings.push_back(
        {check::flattened,
         fmt::format("{}: {} {}", linear, what, place ? describe_shape({row, at}) : describe_shape({row})),
         "values that differ, as its originals do",
         fmt::format("{}{}", found, count > 1 ? fmt::format(", and {} more", count - 1) : "")});
  };
  say("row", zero_rows_, at::ones({1}, at::kBool), false, "zeros alone");
  // A group all of whose channels are dead holds nothing to lose.
  const at::Tensor dead = grouping_.by_group(live_columns_.logical_not().unsqueeze(0)).all(-1)[0];
  say("group", flat_groups_, dead.logical_not(), true, "one value throughout");
  return findings;
}

}  // namespace lathe
