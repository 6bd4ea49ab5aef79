#include "tests/bench/calibration/report.h"

#include <ATen/DeviceAccelerator.h>
#include <fmt/format.h>

#include <cstdio>

#include "lib/base/process_memory.h"
#include "lib/tensor/matrix_product.h"

namespace lathe::bench {
namespace {

using nlohmann::json;

constexpr double kGiga = 1e9;

template <class... Args>
void line(fmt::format_string<Args...> text, Args&&... args) {
  std::puts(fmt::format(text, std::forward<Args>(args)...).c_str());
}

/// libtorch's products of the same shapes; null where they are those of describe_products().
json describe_libtorch(const BenchModel& model, const BlockTimes& times) {
  if (times.libtorch_products.empty()) return nullptr;
  json by_linear = json::object();
  for (const Linear& linear : model.graph.blocks.front().linears) {
    const std::string role(name_of(linear.role));
    const double flops = 2.0 * static_cast<double>(linear.out) * static_cast<double>(linear.in) *
                         static_cast<double>(model.tokens());
    by_linear[role] = flops / median(times.libtorch_linears.at(role)).wall / kGiga;
  }
  const Timing all = median(times.libtorch_products);
  return {{"seconds", all.wall},
          {"cpu_seconds", all.cpu},
          {"gflops_per_s", linear_flops(model) / all.wall / kGiga},
          {"by_linear", by_linear}};
}

json describe_products(const BenchModel& model, const BlockTimes& times) {
  json by_linear = json::object();
  for (const Linear& linear : model.graph.blocks.front().linears) {
    const std::string role(name_of(linear.role));
    const double flops = 2.0 * static_cast<double>(linear.out) * static_cast<double>(linear.in) *
                         static_cast<double>(model.tokens());
    by_linear[role] = {{"out", linear.out},
                       {"in", linear.in},
                       {"gflops_per_s", flops / median(times.linears.at(role)).wall / kGiga}};
  }
  const Timing all = median(times.products);
  const double flops = linear_flops(model);
  return {{"seconds", all.wall},
          {"cpu_seconds", all.cpu},
          {"gflops_per_s", flops / all.wall / kGiga},
          {"by_linear", by_linear},
          {"by", describe_matrix_products()},
          {"libtorch", describe_libtorch(model, times)}};
}

json describe_forward(const BenchModel& model, const BlockTimes& times) {
  std::vector<Timing> without_attention;
  for (size_t i = 0; i < times.forward.size(); ++i)
    without_attention.push_back(times.forward[i] - times.attention[i]);
  const Timing time = median(times.forward), ratio = median_ratio(times.products, times.forward);
  const Timing apart = median_ratio(times.products, without_attention);
  const bool one = times.libtorch_products.empty();
  const Timing libtorch = one ? ratio : median_ratio(times.libtorch_products, times.forward);
  return {{"seconds", time.wall},
          {"cpu_seconds", time.cpu},
          {"gflops_per_s", linear_flops(model) / time.wall / kGiga},
          {"ratio", ratio.wall},
          {"cpu_ratio", ratio.cpu},
          {"ratio_attention_apart", apart.wall},
          {"cpu_ratio_attention_apart", apart.cpu},
          {"libtorch_ratio", libtorch.wall},
          {"libtorch_cpu_ratio", libtorch.cpu},
          {"goal", kForwardGoal},
          {"met", libtorch.wall >= kForwardGoal}};
}

json describe_attention(const BenchModel& model, const BlockTimes& times) {
  const Timing time = median(times.attention), part = median_ratio(times.attention, times.forward);
  return {{"seconds", time.wall},
          {"gflops_per_s", attention_flops(model) / time.wall / kGiga},
          {"part", part.wall},
          {"cpu_part", part.cpu},
          {"flops_over_linears", attention_flops(model) / linear_flops(model)}};
}

json describe_statistic(const StatRow& row, size_t index, double share, const BlockTimes& times) {
  const Timing part = median_ratio(times.statistics[index], times.forward);
  json result = {{"name", row.name},
                 {"seconds", median(times.statistics[index]).wall},
                 {"part", part.wall},
                 {"cpu_part", part.cpu},
                 {"flops_share", row.products ? json(share) : json()},
                 {"finish_seconds", times.finish[index].wall},
                 {"goal", json()},
                 {"met", json()}};
  if (row.goal) {
    result["goal"] = *row.goal + (row.products ? share : 0.0);
    result["met"] = part.wall <= result["goal"];
  }
  return result;
}

/// What the forward pass takes longer with statistics than without.
json describe_extra(const std::vector<Timing>& with, const std::vector<Timing>& forward) {
  const Timing ratio = median_ratio(with, forward);
  return {{"seconds", median(with).wall}, {"part", ratio.wall - 1}, {"cpu_part", ratio.cpu - 1}};
}

std::string percent(const json& value) {
  return value.is_null() ? "" : fmt::format("{:.1f} %", 100 * value.get<double>());
}

std::string verdict(const json& row) {
  return row.at("met").is_null() ? "" : row.at("met").get<bool>() ? "met" : "not met";
}

void print_products(const json& products) {
  const json& libtorch = products["libtorch"];
  const auto beside = [&](const json& rate) {
    return libtorch.is_null() ? std::string() : fmt::format("  libtorch {:9.1f}", rate.get<double>());
  };
  line("  linears alone     {:9.1f} GFLOP/s{}  by {}", products["gflops_per_s"].get<double>(),
       libtorch.is_null() ? "" : beside(libtorch["gflops_per_s"]), products["by"].get<std::string>());
  for (const auto& [role, row] : products["by_linear"].items())
    line("    {:<15} {:9.1f} GFLOP/s{}  {} x {}", role, row["gflops_per_s"].get<double>(),
         libtorch.is_null() ? "" : beside(libtorch["by_linear"][role]), row["out"].dump(), row["in"].dump());
}

}  // namespace

json describe(const BenchModel& model, const BlockTimes& times, c10::Device device) {
  const double share = gram_flops(model) / (linear_flops(model) + attention_flops(model));
  json statistics = json::array();
  for (size_t i = 0; i < kStatRows.size(); ++i)
    statistics.push_back(describe_statistic(kStatRows[i], i, share, times));
  const ModelConfig& config = model.graph.config;
  return {{"model", model.name},
          {"weights", model.weights_from},
          {"blocks", model.graph.blocks.size()},
          {"hidden", config.hidden_size},
          {"intermediate", config.intermediate_size},
          {"heads", {config.num_heads, config.num_kv_heads}},
          {"micro_batch", {model.batch, model.context}},
          {"rounds", times.forward.size()},
          {"products", describe_products(model, times)},
          {"attention", describe_attention(model, times)},
          {"forward", describe_forward(model, times)},
          {"statistics", statistics},
          {"forward_with_gram", describe_extra(times.forward_gram, times.forward)},
          {"forward_with_every", describe_extra(times.forward_every, times.forward)},
          {"peak_bytes", peak_bytes(device)}};
}

void print_model(const json& model) {
  const json &forward = model["forward"], &attention = model["attention"];
  line("\n{}: {} block(s), {} wide, {} x {} tokens, {} rounds, weights from {}",
       model["model"].get<std::string>(), model["blocks"].dump(), model["hidden"].dump(),
       model["micro_batch"][0].dump(), model["micro_batch"][1].dump(), model["rounds"].dump(),
       model["weights"].get<std::string>());
  print_products(model["products"]);
  line("  attention alone   {:9.1f} GFLOP/s, {} of the forward's time (CPU time {})",
       attention["gflops_per_s"].get<double>(), percent(attention["part"]), percent(attention["cpu_part"]));
  line("  forward           {:9.1f} GFLOP/s of linears, {} of the linears' rate (CPU time {})",
       forward["gflops_per_s"].get<double>(), percent(forward["ratio"]), percent(forward["cpu_ratio"]));
  line("    of libtorch's rate for them: {} (CPU time {}); goal {}: {}", percent(forward["libtorch_ratio"]),
       percent(forward["libtorch_cpu_ratio"]), percent(forward["goal"]), verdict(forward));
  line("    with attention's time taken out: {} (CPU time {})", percent(forward["ratio_attention_apart"]),
       percent(forward["cpu_ratio_attention_apart"]));
  line("  {:<22} {:>10} {:>10} {:>10} {:>10}  {:<8} {:>10}", "statistic", "cost", "CPU time", "FLOP share",
       "goal", "", "finish");
  for (const json& row : model["statistics"]) {
    line("  {:<22} {:>10} {:>10} {:>10} {:>10}  {:<8} {:>8.4f} s", row["name"].get<std::string>(),
         percent(row["part"]), percent(row["cpu_part"]), percent(row["flops_share"]), percent(row["goal"]),
         verdict(row), row["finish_seconds"].get<double>());
  }
  for (const char* name : {"forward_with_gram", "forward_with_every"})
    line("  {:<22} {:>10} {:>10}", std::string("+ ") + (name + 13), percent(model[name]["part"]),
         percent(model[name]["cpu_part"]));
  line("  peak memory {:.0f} MiB", model["peak_bytes"].get<double>() / (1 << 20));
}

void print_run(const json& run) {
  line("\n{}: a run of the driver (RTN) over {} blocks, {} x {} tokens, {} rounds",
       run["model"].get<std::string>(), run["blocks"].dump(), run["samples"][0].dump(),
       run["samples"][1].dump(), run["rounds"].dump());
  line(
      "  forward {:.2f} s, run {:.2f} s, of it solving and measuring the result {:.2f} s: {} of the forward "
      "(CPU time {})",
      run["forward_seconds"].get<double>(), run["run_seconds"].get<double>(),
      run["solve_seconds"].get<double>(), percent(run["ratio"]), percent(run["cpu_ratio"]));
}

void print_pass(const json& pass) {
  line("\n{}: {} blocks, {} x {} tokens, one block's weights at a time", pass["model"].get<std::string>(),
       pass["blocks"].dump(), pass["samples"][0].dump(), pass["samples"][1].dump());
  line(
      "  forward {:.2f} s ({:.0f} TFLOP/s), forward and Hessian {:.2f} s; bound at 989 TFLOP/s {:.2f} + "
      "{:.2f} s",
      pass["forward_seconds"].get<double>(), pass["forward_tflops_per_s"].get<double>(),
      pass["forward_gram_seconds"].get<double>(), pass["bound_seconds"][0].get<double>(),
      pass["bound_seconds"][1].get<double>());
  line("  {:.2f} times the bound; goal {:.0f}: {}; weights made in {:.2f} s; peak memory {:.0f} MiB",
       pass["ratio_to_bound"].get<double>(), pass["goal"].get<double>(), verdict(pass),
       pass["weights_seconds"].get<double>(), pass["peak_bytes"].get<double>() / (1 << 20));
}

void print_engine(const json& engine) {
  line("\n{}: runs of the driver (RTN) over {} blocks, {} x {} tokens; bound {:.2f} + {:.2f} s",
       engine["model"].get<std::string>(), engine["blocks"].dump(), engine["samples"][0].dump(),
       engine["samples"][1].dump(), engine["bound_seconds"][0].get<double>(),
       engine["bound_seconds"][1].get<double>());
  for (const json& row : engine["placements"]) {
    line(
        "  hidden states: {:<6}  run {:.2f} s, without statistics and solvers {:.2f} s; {:.2f} times the "
        "bound; "
        "goal {:.0f}: {}; peak memory {:.0f} MiB",
        row["hidden_states"].get<std::string>(), row["run_seconds"].get<double>(),
        row["streaming_seconds"].get<double>(), row["ratio_to_bound"].get<double>(),
        row["goal"].get<double>(), verdict(row), row["peak_bytes"].get<double>() / (1 << 20));
  }
}

void print_agreement(const json& rows) {
  line("\nagreement with one CPU thread (largest difference over largest value)");
  for (const json& row : rows) {
    line("  {:<22} {:<16} {:<5} {:>10.2e}  bound {:>8.1e}  {}", row["statistic"].get<std::string>(),
         row["tensor"].get<std::string>(), row["dtype"].get<std::string>(), row["difference"].get<double>(),
         row["bound"].get<double>(), verdict(row));
  }
}

uint64_t peak_bytes(c10::Device device) {
  if (device.is_cpu()) return peak_rss_bytes();
  return static_cast<uint64_t>(at::accelerator::getDeviceStats(device.index()).reserved_bytes[0].peak);
}

void reset_peak(c10::Device device) {
  if (device.is_cpu()) return;
  at::empty({1}, device);  // before its first allocation a device has no statistics
  at::accelerator::resetPeakStats(device.index());
}

}  // namespace lathe::bench
