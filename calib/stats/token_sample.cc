#include "calib/stats/token_sample.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "lib/base/checked.h"

namespace lathe {

int64_t TokenSample::rows_of(int64_t width) {
  return std::max<int64_t>(kValues / std::max<int64_t>(width, 1), 2);
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
  if (every > 1 && kept_ > 0) rows_ = {at::cat(rows_).slice(0, 0, kept_, every).contiguous()};
  kept_ = ceil_div(kept_, every);
  stride_ *= every;
  if (start >= x.size(0)) return;
  // A copy: the rows that it is cut from must not stay.
  rows_.push_back(
      x.slice(0, start, x.size(0), stride_).to(at::kFloat, /*non_blocking=*/false, /*copy=*/true));
  kept_ += rows_.back().size(0);
}

void TokenSample::thin() {
  at::Tensor all = at::cat(rows_);
  while (all.size(0) > most_) {
    all = all.slice(0, 0, all.size(0), 2);
    stride_ *= 2;
  }
  rows_ = {all.contiguous()};
  kept_ = all.size(0);
}

void TokenSample::merge(const TokenSample& other) {
  if (other.kept_ == 0) return;
  const auto thinned = [](const TokenSample& one, int64_t stride) {
    return at::cat(one.rows_).slice(0, 0, one.kept_, stride / one.stride_);
  };
  const int64_t stride = std::max(stride_, other.stride_);
  std::vector<at::Tensor> rows;
  if (kept_ > 0) rows.push_back(thinned(*this, stride));
  const at::Tensor added = thinned(other, stride);
  rows.push_back(rows.empty() ? added : added.to(rows.front().device()));
  rows_ = {at::cat(rows)};
  kept_ = rows_.front().size(0);
  stride_ = stride;
  seen_ += other.seen_;
  if (kept_ > most_) thin();
}

at::Tensor TokenSample::finish() const { return rows_.empty() ? at::Tensor() : at::cat(rows_); }

}  // namespace lathe
