// bench_ggml_blocks [--ggml LIBRARY] [--rows N] [--columns N] [--rounds N] [--types A,B] [--tensor
// FOLDER:NAME]
//                   [--json FILE|-]
//
// How fast a matrix becomes ggml's blocks, and how well, beside ggml's own quantisers in the same run:
// millions of weights per second of CPU time on one thread (medians of rounds that take turns), and the
// relative error sum w (x - value)^2 / sum w x^2 in FP64, w the importances, or 1. ggml's own functions turn
// both kinds of blocks back into values. The matrix is seeded: normal, the columns' spreads and importances
// log-normal, one weight in 500 ten times as large; --tensor takes a real one.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "formats/safetensors/checkpoint.h"
#include "lib/base/error.h"
#include "lib/kernels/ggml_quant.h"
#include "lib/tensor/aten.h"
#include "tests/bench/calibration/timing.h"
#include "tests/bench/ggml_blocks/ggml_library.h"
#include "tests/bench/json_output.h"

namespace lathe::bench {
namespace {

struct Arguments {
  int64_t rows = 256, columns = 4096, rounds = 5;
  std::string ggml, tensor, json;
  std::vector<std::string> types;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("How fast and how well a matrix becomes ggml's blocks");
  app.add_option("--ggml", arguments.ggml, "library that build_ggml.sh made; without it, Lathe alone");
  app.add_option("--rows", arguments.rows)->check(CLI::Range(1, 262144));
  app.add_option("--columns", arguments.columns, "a multiple of 256")->check(CLI::Range(256, 65536));
  app.add_option("--rounds", arguments.rounds)->check(CLI::Range(1, 1000));
  app.add_option("--types", arguments.types, "such as Q4_0,Q4_K; all, if left out")->delimiter(',');
  app.add_option("--tensor", arguments.tensor, "FOLDER:NAME, instead of a seeded matrix");
  app.add_option("--json", arguments.json, "also write the figures here; - is stdout");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  return arguments;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

at::Tensor seeded(const Arguments& arguments) {
  at::manual_seed(1);
  const at::Tensor outliers = at::rand({arguments.rows, arguments.columns}).lt(0.002) * 9.0 + 1.0;
  return at::randn({arguments.rows, arguments.columns}) * at::randn({arguments.columns}).mul(0.3).exp() *
         outliers * 0.02;
}

at::Tensor real(const std::string& tensor) {
  const size_t colon = tensor.rfind(':');
  if (colon == std::string::npos) user_error("--tensor {}: expected FOLDER:NAME", tensor);
  const Checkpoint checkpoint = Checkpoint::open(tensor.substr(0, colon));
  return borrow(checkpoint.view(tensor.substr(colon + 1))).to(at::kFloat, false, true).contiguous();
}

double relative_error(const at::Tensor& weight, const at::Tensor& values, const at::Tensor& importance) {
  at::Tensor squares = (weight.to(at::kDouble) - values).square(), whole = weight.to(at::kDouble).square();
  if (importance.defined()) squares *= importance, whole *= importance;
  return (squares.sum() / whole.sum()).item<double>();
}

struct Case {
  const at::Tensor& weight;
  const at::Tensor& importance;
  GgmlType type;
  int64_t rounds;
  const GgmlLibrary* ggml;

  at::Tensor ours() const { return kernels::quantize_ggml("w", weight, type, importance); }

  at::Tensor theirs() const {
    at::Tensor blocks = at::empty({weight.size(0), row_bytes(type, weight.size(1))}, at::kByte);
    ggml->quantize(type, weight.data_ptr<float>(),
                   importance.defined() ? importance.data_ptr<float>() : nullptr, weight.size(0),
                   weight.size(1), blocks.data_ptr<uint8_t>());
    return blocks;
  }

  double error(const at::Tensor& blocks) const {
    if (ggml == nullptr)
      return relative_error(weight, kernels::dequantize_ggml(blocks, type, weight.size(1)), importance);
    at::Tensor values = at::empty_like(weight);
    ggml->dequantize(type, blocks.data_ptr<uint8_t>(), weight.numel(), values.data_ptr<float>());
    return relative_error(weight, values, importance);
  }

  template <class Work>
  double seconds(const Work& work) const {
    const double begin = process_cpu_seconds();
    work();
    return process_cpu_seconds() - begin;
  }

  nlohmann::json measure() const {
    std::vector<double> our_times, their_times;
    for (int64_t round = -1; round < rounds; ++round) {  // the first doesn't count
      const double us = seconds([&] { ours(); });
      const double them = ggml != nullptr ? seconds([&] { theirs(); }) : 0.0;
      if (round >= 0) our_times.push_back(us), their_times.push_back(them);
    }
    const auto count = static_cast<double>(weight.numel());
    nlohmann::json row = {{"type", traits(type).name},
                          {"importances", importance.defined()},
                          {"weights_per_second", count / median(our_times)},
                          {"error", error(ours())}};
    if (ggml == nullptr) return row;
    row["ggml_weights_per_second"] = count / median(their_times);
    row["ggml_error"] = error(theirs());
    row["speed_ratio"] = median(their_times) / median(our_times);
    row["error_ratio"] = row["error"].get<double>() / row["ggml_error"].get<double>();
    return row;
  }
};

void show(const nlohmann::json& row) {
  fmt::print("{:<7} {:<4} {:8.1f} {:11.4e}", row["type"].get<std::string>(),
             row["importances"].get<bool>() ? "yes" : "no", row["weights_per_second"].get<double>() / 1e6,
             row["error"].get<double>());
  if (row.contains("ggml_error")) {
    fmt::print(" {:8.1f} {:11.4e} {:7.2f} {:8.4f}", row["ggml_weights_per_second"].get<double>() / 1e6,
               row["ggml_error"].get<double>(), row["speed_ratio"].get<double>(),
               row["error_ratio"].get<double>());
  }
  fmt::print("\n");
  std::fflush(stdout);
}

std::vector<GgmlType> types_of(const Arguments& arguments) {
  std::vector<GgmlType> types;
  for (const std::string& name : arguments.types) {
    const auto type = parse_ggml_type(name);
    if (!type) user_error("--types: unknown type {}", name);
    types.push_back(*type);
  }
  if (!types.empty()) return types;
  for (const GgmlTraits& format : ggml_types()) {
    if (format.length > 1 && format.made) types.push_back(format.type);
  }
  return types;
}

int run(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  at::set_num_threads(1);
  std::optional<GgmlLibrary> ggml;
  if (!arguments.ggml.empty()) ggml.emplace(arguments.ggml);
  const at::Tensor weight = arguments.tensor.empty() ? seeded(arguments) : real(arguments.tensor);
  at::manual_seed(2);
  const at::Tensor importance = at::randn({weight.size(1)}).mul(1.5).exp();
  nlohmann::json result = {{"rows", weight.size(0)}, {"columns", weight.size(1)}};
  fmt::print("[{}, {}]: millions of weights a second, one thread; relative error; the same of ggml; ratios\n",
             weight.size(0), weight.size(1));
  for (const GgmlType type : types_of(arguments)) {
    if (!divides(type, weight.size(1))) continue;
    for (const at::Tensor& shares : {at::Tensor(), importance}) {
      result["blocks"].push_back(
          Case{weight, shares, type, arguments.rounds, ggml ? &*ggml : nullptr}.measure());
      show(result["blocks"].back());
    }
  }
  write_json(arguments.json, result);
  return 0;
}

}  // namespace
}  // namespace lathe::bench

int main(int argc, char** argv) {
  try {
    return lathe::bench::run(argc, argv);
  } catch (const lathe::UserError& error) {
    fmt::print(stderr, "bench_ggml_blocks: {}\n", error.what());
    return 2;
  }
}
