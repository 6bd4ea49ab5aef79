#include "calib/stats/gram.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "lib/base/checked.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr int64_t kPanelWidth = 512;

}  // namespace

GramCollector::GramCollector(int64_t width, c10::Device device) : width_(width) {
  const int64_t step = ceil_div(width, std::max<int64_t>(1, ceil_div(width, kPanelWidth)));
  for (int64_t begin = 0; begin < width; begin += step) {
    const int64_t end = std::min(begin + step, width);
    panels_.push_back(
        {begin, end, at::zeros({end, end - begin}, at::TensorOptions().dtype(at::kDouble).device(device))});
  }
}

bool GramCollector::observe(const at::Tensor& x) {
  at::Tensor diagonal = at::zeros({}, x.options().dtype(at::kDouble));
  for (Panel& panel : panels_) {
    const at::Tensor product = at::mm(x.slice(1, 0, panel.end).t(), x.slice(1, panel.begin, panel.end));
    panel.sum += product;
    diagonal += product.slice(0, panel.begin, panel.end).diagonal().sum(at::kDouble);
  }
  return at::isfinite(diagonal).item<bool>();
}

void GramCollector::merge(const GramCollector& other) {
  LATHE_ASSERT(width_ == other.width_, "Gram matrices of widths {} and {}", width_, other.width_);
  for (size_t i = 0; i < panels_.size(); ++i)
    panels_[i].sum += other.panels_[i].sum.to(panels_[i].sum.device());
}

at::Tensor GramCollector::finish(double factor) const {
  const auto options = panels_.empty() ? at::TensorOptions() : panels_.front().sum.options();
  at::Tensor gram = at::empty({width_, width_}, options.dtype(at::kFloat));
  for (const Panel& panel : panels_) {
    const at::Tensor values = (panel.sum * factor).to(at::kFloat);
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

}  // namespace lathe
