#include "tests/bench/calibration/agreement.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "tests/bench/calibration/statistics.h"

namespace lathe::bench {
namespace {

using nlohmann::json;

/// One thread while it lives.
class OneThread {
 public:
  OneThread() { at::set_num_threads(1); }
  ~OneThread() { at::set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_ = at::get_num_threads();
};

at::Tensor run_block(const BenchModel& model, const at::Tensor& hidden, c10::Device device) {
  const Block& block = model.graph.blocks.front();
  const BlockWeights weights(block, *model.weights, device);
  const RopeTables rope = rope_tables(model.graph.config, model.context, device);
  return BlockForward(model.graph.config, block, weights, rope).run(hidden.to(device)).cpu();
}

/// Observed in three unequal parts, so that chunks straddle observations.
InputStats collect(const StatRow& row, const at::Tensor& x, c10::Device device) {
  StatsCollector collector(set_of(row), x.size(-1), device, "agreement");
  const at::Tensor moved = x.to(device);
  for (const at::Tensor& part : moved.split({1000, 37, x.size(0) - 1037}))
    observe(collector, set_of(row), part, part.flip(1));
  return collector.finish();
}

json row_of(std::string_view statistic, const StatTensor& expected, const at::Tensor& found,
            const char* dtype, double bound) {
  const at::Tensor a = expected.values.cpu().to(at::kDouble), b = found.cpu().to(at::kDouble);
  const double scale = a.abs().max().item<double>(), difference = (a - b).abs().max().item<double>();
  const double relative = scale > 0 ? difference / scale : difference;
  return {{"statistic", statistic}, {"tensor", expected.name}, {"dtype", dtype},
          {"difference", relative}, {"bound", bound},          {"met", relative <= bound}};
}

/// Of products of halves: tensor cores align the terms of each 16 to the accumulator and cut what is below
/// its last bit, 2^-23 of it, in up to 8,192 / 16 steps before the sum goes on (Hopper; FP32 is multiplied as
/// such).
double product_bound(const StatRow& row, const at::Tensor& x) {
  if (!set_of(row).gram && !set_of(row).cross_gram) return 0;
  return x.scalar_type() == at::kFloat ? 0 : 512 * 0x1p-23;
}

void compare_statistics(const at::Tensor& x, const char* dtype, c10::Device device, json& rows,
                        bool products_only = false) {
  for (const StatRow& row : kStatRows) {
    if (products_only && !set_of(row).gram && !set_of(row).cross_gram) continue;
    const std::vector<StatTensor> found = tensors_of(collect(row, x, device));
    const OneThread one;
    const std::vector<StatTensor> expected = tensors_of(collect(row, x.to(at::kFloat), at::kCPU));
    for (size_t i = 0; i < expected.size(); ++i) {
      const double bound = device.is_cpu() ? 0.0 : std::max(expected[i].bound, product_bound(row, x));
      rows.push_back(row_of(row.name, expected[i], found.at(i).values, dtype, bound));
    }
  }
}

/// Products of several panels (2,048 columns on a GPU, 512 on a CPU), over more tokens than a GPU adds in
/// FP32 before it goes on in FP64 (16,384).
at::Tensor wide_input(c10::Device device) {
  const int64_t width = device.is_cpu() ? 648 : 2632;
  return at::randn({20'500, width}) * at::logspace(-1, 1, width);
}

}  // namespace

json measure_agreement(c10::Device device) {
  const c10::NoGradGuard no_grad;
  const BenchModel model = make_model("block4096", "", /*quick=*/true, at::kCPU);
  const at::Tensor hidden = first_hidden(model, at::kCPU);
  json rows = json::array();
  at::manual_seed(2);
  const at::Tensor x = at::randn({5000, 172}) * at::logspace(-2, 1, 172);  // channels of different sizes
  compare_statistics(x, "F32", device, rows);
  compare_statistics(x.to(at::kHalf), "F16", device, rows);
  if (!device.is_cpu()) compare_statistics(x.to(at::kBFloat16), "BF16", device, rows);
  const at::Tensor wide = wide_input(device);
  compare_statistics(wide, "F32, wide", device, rows, /*products_only=*/true);
  if (!device.is_cpu())
    compare_statistics(wide.to(at::kHalf), "F16, wide", device, rows, /*products_only=*/true);
  const at::Tensor found = run_block(model, hidden, device);
  const OneThread one;
  rows.push_back(row_of("forward", {"hidden states", run_block(model, hidden, at::kCPU), 0}, found, "F32",
                        device.is_cpu() ? 1e-6 : 1e-4));
  return rows;
}

}  // namespace lathe::bench
