// bench_algorithms [--size N] [--rows N] [--bits B] [--group G] [--asymmetric] [--only NAME]... [--rounds N]
//                  [--range NAME] [--tokens N] [--fold-only] [--device cpu|cuda] [--json FILE|-]
//
// What one linear costs each solver and transform of the registry, at its default options, but for the range
// that --range names, and what the Gram matrix of --tokens inputs costs (`gram`): medians of wall and CPU
// seconds beside this machine's rate of FP32 matrix products, measured in between. --fold-only: transforms
// offer no ranges (AWQ without its clip). Where a cost
// formula is known (costs.cc), also the ratio to the time that its operations take at that rate. The weights
// and inputs are seeded; how long an algorithm takes depends on the shapes alone, but for early stops.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "algorithms/algorithm.h"
#include "lib/base/error.h"
#include "lib/base/process_memory.h"
#include "lib/tensor/block_allocator.h"
#include "lib/tensor/device.h"
#include "lib/tensor/matrix_product.h"
#include "tests/bench/algorithms/costs.h"
#include "tests/bench/algorithms/problem.h"
#include "tests/bench/calibration/timing.h"
#include "tests/bench/json_output.h"

namespace lathe::bench {
namespace {

struct Arguments {
  int64_t size = 4096, rows = 0, group = 128, rounds = 3, tokens = 0;
  int bits = 4;
  bool asymmetric = false, fold_only = false;
  std::vector<std::string> only;
  std::string range, device = "cpu", json;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("What one linear costs each algorithm");
  app.add_option("--size", arguments.size, "inputs of the linear")->check(CLI::Range(64, 65536));
  app.add_option("--rows", arguments.rows, "outputs of the linear; default: as many")
      ->check(CLI::Range(1, 262144));
  app.add_option("--bits", arguments.bits)->check(CLI::Range(2, 8));
  app.add_option("--group", arguments.group, "group size");
  app.add_flag("--asymmetric", arguments.asymmetric);
  app.add_option("--only", arguments.only, "names of solvers and transforms, or gram; default: all");
  app.add_option("--rounds", arguments.rounds)->check(CLI::Range(1, 100));
  app.add_option("--range", arguments.range, "how solvers choose groups' ranges; default: each its own");
  app.add_option("--tokens", arguments.tokens, "of the Gram matrix; default: twice the size")
      ->check(CLI::Range(1, 1 << 20));
  app.add_flag("--fold-only", arguments.fold_only, "transforms offer no ranges");
  app.add_option("--device", arguments.device);
  app.add_option("--json", arguments.json, "also write the figures here; - is stdout");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  if (arguments.rows == 0) arguments.rows = arguments.size;
  if (arguments.tokens == 0) arguments.tokens = 2 * arguments.size;
  return arguments;
}

/// FLOP/s of FP32 products [rows, size] x [size, size].
Timing measure_product(const BenchProblem& problem, c10::Device device) {
  const at::Tensor& weight = problem.linear().weight;
  return measure(device, [&] { matrix_product(weight, problem.stats().gram); });
}

struct Row {
  std::string name;
  Timing median;
  double product_gflops = 0;  // in the same minutes
  std::optional<double> flops;

  nlohmann::json to_json() const {
    nlohmann::json json = {{"name", name},
                           {"seconds", median.wall},
                           {"cpu_seconds", median.cpu},
                           {"gemm_gflops", product_gflops}};
    if (flops) {
      json["flops"] = *flops;
      json["ratio_to_bound"] = ratio();
    }
    return json;
  }
  double ratio() const { return median.wall * product_gflops * 1e9 / *flops; }
};

template <class Work>
Row measure_row(const std::string& name, const BenchProblem& problem, const Arguments& arguments,
                c10::Device device, const Work& work) {
  std::vector<Timing> times, products;
  for (int64_t round = 0; round < arguments.rounds; ++round) {
    products.push_back(measure_product(problem, device));
    times.push_back(measure(device, work));
  }
  const double operations = 2.0 * static_cast<double>(arguments.rows) * static_cast<double>(arguments.size) *
                            static_cast<double>(arguments.size);
  return {name, median(times), operations / median(products).wall / 1e9,
          operations_of(name, arguments.rows, arguments.size, arguments.tokens)};
}

bool wanted(const Arguments& arguments, const std::string& name) {
  return arguments.only.empty() ||
         std::find(arguments.only.begin(), arguments.only.end(), name) != arguments.only.end();
}

/// The command line's scheme, or the nearest that the solver takes.
Scheme scheme_for(const std::string& solver, Scheme scheme) {
  if (solver == "hqq") scheme.symmetric = false;
  if (solver == "float") return Scheme::as_they_are();
  if (solver == "spqr") {
    scheme = Scheme{"int", 3, 16, false};
    scheme.scale_grid = ScaleGrid{};
  }
  return scheme;
}

Options options_of(const SolverEntry& entry, const Arguments& arguments) {
  Options options(entry.options);
  if (!arguments.range.empty() && options.all().contains("range")) options.set("range", arguments.range);
  return options;
}

std::vector<Row> measure_all(const Arguments& arguments) {
  const c10::Device device = resolve_device(arguments.device);
  const Scheme scheme{.type = "int",
                      .bits = arguments.bits,
                      .group_size = arguments.group,
                      .symmetric = !arguments.asymmetric};
  const BenchProblem problem(arguments.rows, arguments.size, scheme, device);
  std::vector<Row> rows;
  if (wanted(arguments, "gram")) {
    const at::Tensor tokens = problem.tokens(arguments.tokens);
    rows.push_back(measure_row("gram", problem, arguments, device, [&] { gram_of(tokens); }));
  }
  for (const TransformEntry& entry : transforms()) {
    if (!wanted(arguments, entry.name) || entry.rotates) continue;
    const auto transform = entry.make(Options(entry.options));
    rows.push_back(measure_row(entry.name, problem, arguments, device, [&] {
      transform->fold(problem.edge(), problem.shared());
      if (!arguments.fold_only) transform->range(problem.linear(), problem.stats());
    }));
  }
  for (const SolverEntry& entry : solvers()) {
    if (!wanted(arguments, entry.name)) continue;
    const auto solver = entry.make(options_of(entry, arguments));
    SharedInputProblem shared = problem.shared();
    shared.linears.front().scheme = scheme_for(entry.name, scheme);
    rows.push_back(measure_row(entry.name, problem, arguments, device, [&] { solver->solve(shared); }));
  }
  return rows;
}

void print_table(const Arguments& arguments, const std::vector<Row>& rows, std::FILE* out) {
  fmt::print(out, "one linear, {} x {}, {} bits, group {}, {}\n", arguments.rows, arguments.size,
             arguments.bits, arguments.group, arguments.device);
  fmt::print(out, "{:14} {:>9} {:>9} {:>14} {:>16}\n", "", "wall s", "CPU s", "GEMM GFLOP/s",
             "ratio to bound");
  for (const Row& row : rows) {
    fmt::print(out, "{:14} {:9.3f} {:9.3f} {:14.1f} {:>16}\n", row.name, row.median.wall, row.median.cpu,
               row.product_gflops, row.flops ? fmt::format("{:.2f}", row.ratio()) : "-");
  }
}

void write_rows(const Arguments& arguments, const std::vector<Row>& rows) {
  nlohmann::json json = {{"rows", arguments.rows},     {"size", arguments.size},
                         {"bits", arguments.bits},     {"group", arguments.group},
                         {"device", arguments.device}, {"algorithms", nlohmann::json::array()}};
  for (const Row& row : rows) json["algorithms"].push_back(row.to_json());
  bench::write_json(arguments.json, json);
}

}  // namespace
}  // namespace lathe::bench

int main(int argc, char** argv) {
  using namespace lathe;
  try {
    const bench::Arguments arguments = bench::parse(argc, argv);
    map_large_blocks();  // as the program
    use_block_allocator();
    const c10::NoGradGuard no_grad;
    const auto rows = bench::measure_all(arguments);
    bench::print_table(arguments, rows, arguments.json == "-" ? stderr : stdout);
    bench::write_rows(arguments, rows);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_algorithms: {}\n", error.what());
    return 2;
  }
}
