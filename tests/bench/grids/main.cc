// bench_grids [--size N] [--rows N] [--rounds N] [--threads N] [--device cpu|cuda] [--json FILE|-]
//
// How near the memory's rate the kernels of every grid come: the ranges of a weight's groups, its codes,
// their values again, codes and values in one pass, an input's rounding, and that of keys and values on the
// grids of quantised caches (the matrix as tokens of heads of 128 channels). Each is timed beside a copy of
// the same FP32 matrix, moments apart; figures are medians: GB (10^9 bytes) a second that are read and
// written, counted once each, and that rate as a part of the copy's. On the CPU time is that of its threads
// together, on a GPU it passes on the wall.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>

#include "lib/kernels/dequantize.h"
#include "lib/kernels/group_quant.h"
#include "lib/kernels/input_quant.h"
#include "lib/kernels/kv_cache_quant.h"
#include "lib/numeric/kv_cache.h"
#include "lib/numeric/quantized_tensor.h"
#include "lib/tensor/device.h"
#include "tests/bench/calibration/timing.h"
#include "tests/bench/json_output.h"

namespace lathe::bench {
namespace {

constexpr double kGoal = 0.6;  // of the copy's rate, on the CPU

struct Arguments {
  int64_t size = 4096, rows = 8192, rounds = 9;
  int threads = 1;
  std::string device = "cpu", json;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("How near the memory's rate the kernels of every grid come");
  app.add_option("--size", arguments.size, "inputs of the linear, a multiple of 128")
      ->check(CLI::Range(128, 65536));
  app.add_option("--rows", arguments.rows, "outputs of the linear")->check(CLI::Range(1, 262144));
  app.add_option("--rounds", arguments.rounds)->check(CLI::Range(1, 1000));
  app.add_option("--threads", arguments.threads)->check(CLI::Range(1, 1024));
  app.add_option("--device", arguments.device);
  app.add_option("--json", arguments.json, "also write the figures here; - is stdout");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  return arguments;
}

std::vector<Scheme> schemes() {
  std::vector<Scheme> all = {{"int", 8, -1, true},
                             {"int", 8, 128, false},
                             {"int", 4, 128, true},
                             {"int", 4, 128, false},
                             {"int", 2, 32, false}};
  for (const FloatGridType& grid : float_grid_types()) all.push_back(Scheme::of_floats(grid.name));
  return all;
}

constexpr int64_t kHeadDim = 128;

/// Levels that lie evenly in [-1, 1].
at::Tensor even_levels(double bits) { return at::linspace(-1, 1, cache_levels(bits)); }

/// One of each type, for heads that have `channels` channels in all; parameters as calibration of such values
/// would find them.
std::vector<KvCacheQuantizer> caches(int64_t channels) {
  const KvCacheScheme kivi{.type = "kivi", .bits = 2, .value_bits = 2, .group_size = 32, .window = 128},
      kvquant{.type = "kvquant", .bits = 4, .value_bits = 4, .sink = 1, .outliers = 0.01},
      skvq{.type = "skvq", .bits = 2, .value_bits = 2, .group_size = 128, .window = 128};
  KvCacheQuantizer levels{.scheme = kvquant}, ordered{.scheme = skvq};
  levels.parameters = {{"key_lower", at::full({channels}, -2.5f)},
                       {"key_upper", at::full({channels}, 2.5f)},
                       {"key_levels", even_levels(kvquant.bits)},
                       {"value_levels", even_levels(kvquant.value_bits)}};
  for (const char* side : {"key", "value"}) {
    const std::string name = side;
    ordered.parameters[name + "_order"] = at::randperm(channels, at::kInt);
    ordered.parameters[name + "_begins"] =
        at::arange(0, channels + 1, skvq.group_size, at::TensorOptions().dtype(at::kInt));
    ordered.parameters[name + "_clip"] = at::full({channels / skvq.group_size}, 0.95f);
  }
  return {{.scheme = {.type = "float"}, .k_scales = {0.01f}},
          {.scheme = {.type = "int"}, .k_scales = {0.04f}},
          {.scheme = kivi},
          levels,
          ordered};
}

class Measurement {
 public:
  Measurement(const Arguments& arguments, c10::Device device)
      : arguments_(arguments),
        device_(device),
        weight_(at::randn({arguments.rows, arguments.size}, at::TensorOptions().device(device))),
        copy_(at::empty_like(weight_)) {}

  nlohmann::json weights(const Scheme& scheme) {
    const GroupRange range = kernels::group_min_max(weight_, scheme);
    const kernels::GroupParams params = kernels::group_params(
        range, scheme, DType::F16,
        scheme.has_global_scale() ? kernels::global_scale(weight_.abs().amax()) : at::Tensor());
    const QuantizedTensor tensor{.scheme = scheme,
                                 .codes = kernels::group_encode(weight_, params, scheme),
                                 .scales = params.scales,
                                 .zero_points = params.zero_points,
                                 .global_scale = params.global};
    nlohmann::json row = {{"scheme", scheme.describe()}};
    row["ranges"] = beside_copy(4, [&] { kernels::group_min_max(weight_, scheme); });
    row["encode"] = beside_copy(5, [&] { kernels::group_encode(weight_, params, scheme); });
    row["decode"] = beside_copy(5, [&] { kernels::dequantize(tensor); });
    row["round"] = beside_copy(8, [&] { kernels::group_fake_quantize(weight_, params, scheme); });
    return row;
  }

  nlohmann::json inputs(const InputQuantizer& quantizer) {
    return {{"scheme", quantizer.scheme.describe()},
            // A dynamic grid's values are read once more for their ranges.
            {"round", beside_copy(quantizer.scheme.dynamic ? 12 : 8,
                                  [&] { kernels::fake_quantize_input(weight_, quantizer); })}};
  }

  /// Keys and values beside one another; those of one scale are rounded alike.
  nlohmann::json cache(const KvCacheQuantizer& quantizer) {
    const KvCacheScheme& scheme = quantizer.scheme;
    const at::Tensor tokens = weight_.view({1, arguments_.rows, arguments_.size / kHeadDim, kHeadDim});
    nlohmann::json row = {{"scheme", scheme.describe()}};
    if (!scheme.low_bit()) {
      const at::Tensor heads = tokens.transpose(1, 2);
      row["keys"] = row["values"] =
          beside_copy(8, [&] { kernels::fake_quantize_cache(heads, scheme, quantizer.k_scales); });
      return row;
    }
    row["keys"] = beside_copy(8, [&] { kernels::round_cached_keys(tokens, quantizer); });
    row["values"] = beside_copy(8, [&] { kernels::round_cached_values(tokens, quantizer); });
    return row;
  }

 private:
  /// bytes: that `work` reads and writes for each value.
  nlohmann::json beside_copy(double bytes, const std::function<void()>& work) {
    work();
    std::vector<Timing> copies, works;
    for (int64_t round = 0; round < arguments_.rounds; ++round) {
      copies.push_back(measure(device_, [&] { copy_.copy_(weight_); }));
      works.push_back(measure(device_, work));
    }
    const auto seconds = [&](Timing timing) { return device_.is_cpu() ? timing.cpu : timing.wall; };
    const double all = bytes * static_cast<double>(weight_.numel());
    return {{"gb_per_second", all / seconds(median(works)) / 1e9},
            {"part_of_copy", bytes / 8 * seconds(median_ratio(copies, works))}};
  }

  const Arguments& arguments_;
  c10::Device device_;
  at::Tensor weight_, copy_;
};

std::string shown(const nlohmann::json& row, const char* work) {
  if (!row.contains(work)) return fmt::format("{:>16}", "");
  return fmt::format("{:8.2f} ({:4.0f} %)", row[work]["gb_per_second"].get<double>(),
                     100 * row[work]["part_of_copy"].get<double>());
}

int run(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  const c10::NoGradGuard no_grad;
  at::set_num_threads(arguments.threads);
  // Results take the place of those before: what a new page costs is no part of a kernel.
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
  const c10::Device device = resolve_device(arguments.device);
  at::manual_seed(1);
  // Before anything large: small blocks behind large ones that come and go would make these new pages each
  // time.
  const std::vector<KvCacheQuantizer> quantised_caches = caches(arguments.size);
  Measurement measurement(arguments, device);
  nlohmann::json result = {{"size", arguments.size},
                           {"rows", arguments.rows},
                           {"threads", arguments.threads},
                           {"device", device.str()},
                           {"goal", kGoal}};
  fmt::print(
      "[{}, {}] on {}, {} thread(s): GB a second, and the part of a copy's "
      "rate\n{:<34}{:>16}{:>16}{:>16}{:>16}\n",
      arguments.rows, arguments.size, device.str(), arguments.threads, "grid", "ranges", "encode", "decode",
      "round");
  const auto show = [&](const char* list, const nlohmann::json& row) {
    fmt::print("{:<34}{}{}{}{}\n", row["scheme"].get<std::string>(), shown(row, "ranges"),
               shown(row, "encode"), shown(row, "decode"), shown(row, "round"));
    std::fflush(stdout);
    result[list].push_back(row);
  };
  for (const Scheme& scheme : schemes()) show("weights", measurement.weights(scheme));
  const ActivationScheme integers, fp8 = ActivationScheme::of_floats("fp8_e4m3");
  ActivationScheme fixed = fp8;
  fixed.dynamic = false;
  fixed.per = ActivationScheme::Per::tensor;
  for (const InputQuantizer& quantizer :
       {InputQuantizer{integers}, InputQuantizer{.scheme = fp8},
        InputQuantizer{.scheme = fixed, .scale = 0.01f},
        InputQuantizer{.scheme = ActivationScheme::of_floats("nvfp4"), .scale = 0.002f}})
    show("inputs", measurement.inputs(quantizer));
  fmt::print("{:<64}{:>16}{:>16}\n", "cache", "keys", "values");
  for (const KvCacheQuantizer& quantizer : quantised_caches) {
    const nlohmann::json row = measurement.cache(quantizer);
    fmt::print("{:<64}{}{}\n", row["scheme"].get<std::string>(), shown(row, "keys"), shown(row, "values"));
    std::fflush(stdout);
    result["caches"].push_back(row);
  }
  write_json(arguments.json, result);
  return 0;
}

}  // namespace
}  // namespace lathe::bench

int main(int argc, char** argv) { return lathe::bench::run(argc, argv); }
