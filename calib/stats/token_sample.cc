#include "calib/stats/token_sample.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "lib/base/checked.h"

namespace lathe {

int64_t TokenSample::rows_of(int64_t width) {
  return std::max<int64_t>(kValues / std::max<int64_t>(width, 1), 2);
}

uint64_t TokenSample::most_held(int64_t width) {
  return static_cast<uint64_t>((kMostHeld + 1) * rows_of(width) * width) * sizeof(float);
}

void TokenSample::observe(const at::Tensor& x) {
  const int64_t first = (stride_ - seen_ % stride_) % stride_;
  seen_ += x.size(0);
  if (first >= x.size(0)) return;
  // Thinned before they are taken, which gives the same: what goes at once need not be copied.
  const int64_t added = ceil_div(x.size(0) - first, stride_), all = kept_ + added;
  int64_t every = 1;
  while (ceil_div(all, every) > most_) every *= 2;
  const int64_t start = first + (every - kept_ % every) % every * stride_;
  kept_ = ceil_div(kept_, every);
  stride_ *= every;
  if (start >= x.size(0)) return;
  // A copy: the rows that it is cut from must not stay.
  const at::Tensor rows =
      x.slice(0, start, x.size(0), stride_).to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  parts_.push_back({rows, stride_, kept_});
  kept_ += rows.size(0);
  held_ += rows.size(0);
  if (held_ > kMostHeld * most_) gather();
}

at::Tensor TokenSample::kept_at(int64_t stride) const {
  std::vector<at::Tensor> kept;
  for (const Part& part : parts_) {
    const int64_t every = stride / part.stride, first = (every - part.first % every) % every;
    if (first < part.rows.size(0)) kept.push_back(part.rows.slice(0, first, part.rows.size(0), every));
  }
  return at::cat(kept);
}

void TokenSample::gather() {
  parts_ = {{kept_at(stride_), stride_, 0}};
  held_ = kept_;
}

void TokenSample::merge(const TokenSample& other) {
  if (other.kept_ == 0) return;
  int64_t stride = std::max(stride_, other.stride_);
  at::Tensor rows = other.kept_at(stride);
  if (kept_ > 0) {
    const at::Tensor own = kept_at(stride);
    rows = at::cat({own, rows.to(own.device())});
  }
  while (rows.size(0) > most_) {
    rows = rows.slice(0, 0, rows.size(0), 2);
    stride *= 2;
  }
  stride_ = stride;
  seen_ += other.seen_;
  kept_ = held_ = rows.size(0);
  parts_ = {{rows.contiguous(), stride_, 0}};
}

at::Tensor TokenSample::finish() const { return parts_.empty() ? at::Tensor() : kept_at(stride_); }

}  // namespace lathe
