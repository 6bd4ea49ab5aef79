// bench_calibration [--model NAME]... [--device cpu|cuda] [--quick] [--rounds N] [--smollm2 FOLDER] [--json
// FILE]
//                   [--note KEY=TEXT]...
//
// What calibration costs beside the forward pass, and the forward pass beside the machine's matrix products:
// a table on stdout and the same as JSON. `make bench` calls it. --note puts words of the caller (a commit)
// into the JSON.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <cstdio>
#include <ctime>
#include <fstream>
#include <span>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/process_memory.h"
#include "lib/tensor/block_allocator.h"
#include "lib/tensor/device.h"
#include "tests/bench/calibration/agreement.h"
#include "tests/bench/calibration/driver_bench.h"
#include "tests/bench/calibration/engine_bench.h"
#include "tests/bench/calibration/report.h"
#include "tests/bench/calibration/whole_pass.h"

namespace lathe::bench {
namespace {

using nlohmann::json;

struct Options {
  std::vector<std::string> models;
  std::string device = "cpu", smollm2, json_path;
  bool quick = false;
  int64_t rounds = 0;  // 0: each model's own
  json notes = json::object();
};

int64_t parse_count(const std::string& text) {
  try {
    const int64_t value = std::stoll(text);
    if (value > 0) return value;
  } catch (const std::exception&) {  // answered below
  }
  user_error("--rounds {}: expected a number above 0", text);
}

void add_note(Options& options, const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos) user_error("--note {}: expected KEY=TEXT", text);
  options.notes[text.substr(0, equals)] = text.substr(equals + 1);
}

Options parse(std::span<char*> arguments) {
  Options options;
  for (size_t i = 1; i < arguments.size(); ++i) {
    const std::string flag = arguments[i];
    if (flag == "--quick") {
      options.quick = true;
      continue;
    }
    if (i + 1 == arguments.size()) user_error("{}: expected a value (or no such flag)", flag);
    const std::string value = arguments[++i];
    if (flag == "--model") {
      options.models.push_back(value);
    } else if (flag == "--device") {
      options.device = value;
    } else if (flag == "--rounds") {
      options.rounds = parse_count(value);
    } else if (flag == "--smollm2") {
      options.smollm2 = value;
    } else if (flag == "--json") {
      options.json_path = value;
    } else if (flag == "--note") {
      add_note(options, value);
    } else {
      user_error("no flag {}", flag);
    }
  }
  if (options.models.empty()) options.models = {"smollm2", "block4096"};
  return options;
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", std::gmtime(&now));
  return text;
}

/// "model name" of /proc/cpuinfo.
std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string row; std::getline(file, row);) {
    if (row.starts_with("model name")) return row.substr(row.find(':') + 2);
  }
  return "unknown";
}

/// Rounds where none are asked for: blocks of thousands of channels take seconds each.
int64_t rounds_of(const Options& options, const BenchModel& model) {
  if (options.rounds > 0) return options.rounds;
  if (options.quick) return 2;
  return std::max<int64_t>(3, std::ssize(model.graph.blocks));
}

json run(const Options& options) {
  const c10::Device device = resolve_device(options.device);
  json results = {{"date", today()},   {"notes", options.notes}, {"quick", options.quick},
                  {"cpu", cpu_name()}, {"device", device.str()}, {"threads", at::get_num_threads()}};
  results["models"] = results["runs"] = results["passes"] = results["engine"] = json::array();
  for (const std::string& name : options.models) {
    BenchModel model = make_model(name, options.smollm2, options.quick, device);
    if (model.samples > 0) {
      results["passes"].push_back(measure_pass(model, device));
      print_pass(results["passes"].back());
      results["engine"].push_back(measure_engine(model, device));
      print_engine(results["engine"].back());
      continue;
    }
    reset_peak(device);
    results["models"].push_back(
        describe(model, measure_blocks(model, device, rounds_of(options, model)), device));
    print_model(results["models"].back());
    if (model.graph.blocks.size() == 1) continue;  // nothing flows from block to block
    results["runs"].push_back(measure_driver(model, device, options.quick ? 1 : 3));
    print_run(results["runs"].back());
  }
  results["agreement"] = measure_agreement(device);
  print_agreement(results["agreement"]);
  return results;
}

}  // namespace
}  // namespace lathe::bench

int main(int argc, char** argv) {
  lathe::map_large_blocks();  // as the program
  lathe::use_block_allocator();
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // minutes lie between lines: show each at once
  try {
    const auto options = lathe::bench::parse({argv, static_cast<size_t>(argc)});
    const nlohmann::json results = lathe::bench::run(options);
    if (!options.json_path.empty()) {
      std::ofstream file(options.json_path);
      file << results.dump(2) << "\n";
      if (!file.flush()) lathe::user_error("{}: can't be written", options.json_path);
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_calibration: {}\n", error.what());
    return 2;
  }
  return 0;
}
