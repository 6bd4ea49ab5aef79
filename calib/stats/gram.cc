#include "calib/stats/gram.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "lib/base/checked.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr int64_t kWidestPanel = 512, kNarrowestPanel = 96;
/// Chunks of 2048 tokens that a GPU adds in FP32.
constexpr int64_t kPartialChunks = 8;

/// Columns of a panel. The part of a panel below the diagonal is computed in vain, so narrow ones waste less;
/// GEMMs of fewer columns than these run slower. Measured on a CPU over 2048 tokens, as time over that of
/// half a GEMM of the same size: width 576 in 2 panels 1.39, in 6 1.11; 1536 in 3 1.43, in 6 1.25; 4096 in
/// 8 1.13.
int64_t panel_step(int64_t width, c10::Device device) {
  const int64_t most =
      device.is_cpu() ? std::clamp<int64_t>(width / 6, kNarrowestPanel, kWidestPanel) : kWidestPanel;
  return ceil_div(width, std::max<int64_t>(1, ceil_div(width, most)));
}

/// Rows times the roots of their weights: the product of two such rows carries the weight, symmetrically.
at::Tensor weighted(const at::Tensor& x, const at::Tensor& weights) {
  if (!weights.defined()) return x;
  return x * weights.sqrt().unsqueeze(1).to(x.scalar_type());
}

}  // namespace

PanelSum::PanelSum(int64_t rows, int64_t columns, c10::Device device)
    : sum_(at::zeros({rows, columns}, at::TensorOptions().dtype(at::kDouble).device(device))) {}

void PanelSum::add(const at::Tensor& a, const at::Tensor& b) {
  if (a.is_cpu()) {
    sum_ += at::mm(a.t(), b);
    return;
  }
  const bool half = a.scalar_type() != at::kFloat;
  if (!partial_.defined()) partial_ = at::zeros(sum_.sizes(), sum_.options().dtype(at::kFloat));
  if (half) {
    at::addmm_out(partial_, partial_, a.t(), b, at::kFloat);
  } else {
    partial_.addmm_(a.t(), b);
  }
  if (++partial_chunks_ == kPartialChunks) flush();
}

void PanelSum::flush() {
  if (partial_chunks_ == 0) return;
  sum_ += partial_;
  partial_.zero_();
  partial_chunks_ = 0;
}

void PanelSum::merge(PanelSum& other) {
  flush();
  sum_ += other.total().to(sum_.device());
}

const at::Tensor& PanelSum::total() {
  flush();
  return sum_;
}

GramCollector::GramCollector(int64_t width, c10::Device device) : width_(width), device_(device) {
  const int64_t step = panel_step(width, device);
  for (int64_t begin = 0; begin < width; begin += step) {
    const int64_t end = std::min(begin + step, width);
    panels_.push_back({begin, end, PanelSum(end, end - begin, device)});
  }
}

void GramCollector::observe(const at::Tensor& x, const at::Tensor& weights) {
  const at::Tensor rows = weighted(x, weights);
  for (Panel& panel : panels_)
    panel.sum.add(rows.slice(1, 0, panel.end), rows.slice(1, panel.begin, panel.end));
}

void GramCollector::merge(GramCollector& other) {
  LATHE_ASSERT(width_ == other.width_, "Gram matrices of widths {} and {}", width_, other.width_);
  for (size_t i = 0; i < panels_.size(); ++i) panels_[i].sum.merge(other.panels_[i].sum);
}

at::Tensor GramCollector::finish(double factor) {
  at::Tensor gram = at::empty({width_, width_}, at::TensorOptions().dtype(at::kFloat).device(device_));
  for (Panel& panel : panels_) {
    const at::Tensor values = (panel.sum.total() * factor).to(at::kFloat);
    gram.slice(0, 0, panel.end).slice(1, panel.begin, panel.end).copy_(values);
    const at::Tensor above = values.slice(0, 0, panel.begin);
    gram.slice(0, panel.begin, panel.end).slice(1, 0, panel.begin).copy_(above.t());
    // Within the diagonal block the GEMM may round [i, j] and [j, i] differently: the upper one stands for
    // both.
    const at::Tensor block = values.slice(0, panel.begin, panel.end);
    gram.slice(0, panel.begin, panel.end)
        .slice(1, panel.begin, panel.end)
        .copy_(block.triu() + block.triu(1).t());
  }
  return gram;
}

CrossGramCollector::CrossGramCollector(int64_t width, c10::Device device) : width_(width), device_(device) {
  const int64_t step = panel_step(width, c10::kCUDA);  // nothing to leave out: wide ones
  for (int64_t begin = 0; begin < width; begin += step) {
    const int64_t end = std::min(begin + step, width);
    panels_.push_back({begin, end, PanelSum(width, end - begin, device)});
  }
}

void CrossGramCollector::observe(const at::Tensor& x, const at::Tensor& reference,
                                 const at::Tensor& weights) {
  const at::Tensor rows = weighted(x, weights), other = weighted(reference, weights);
  for (Panel& panel : panels_) panel.sum.add(other, rows.slice(1, panel.begin, panel.end));
}

void CrossGramCollector::merge(CrossGramCollector& other) {
  LATHE_ASSERT(width_ == other.width_, "Gram matrices of widths {} and {}", width_, other.width_);
  for (size_t i = 0; i < panels_.size(); ++i) panels_[i].sum.merge(other.panels_[i].sum);
}

at::Tensor CrossGramCollector::finish(double factor) {
  at::Tensor gram = at::empty({width_, width_}, at::TensorOptions().dtype(at::kFloat).device(device_));
  for (Panel& panel : panels_)
    gram.slice(1, panel.begin, panel.end).copy_((panel.sum.total() * factor).to(at::kFloat));
  return gram;
}

}  // namespace lathe
