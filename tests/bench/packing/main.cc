// bench_packing [--size N] [--rows N] [--rounds N] [--threads N] [--folder DIR] [--write-mb N] [--json
// FILE|-]
//
// How fast one linear's codes become the tensors that a target writes: codes, scales and zero points
// together, as a run does it. Figures are medians, in GB (10^9 bytes) of codes, one byte each, a second of
// CPU time (of all threads together, so that they are a core's, whatever else the machine does); beside them
// the same in bytes of the tensors written, and a copy of the codes (memcpy) in the same minute, which is
// what the machine's memory gives. At last a checkpoint is written to --folder (where artefacts would go; the
// temporary folder), and as many bytes plainly, in wall time: writing.h.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>

#include "formats/targets/code_words.h"
#include "formats/targets/target.h"
#include "lib/tensor/aten.h"
#include "tests/bench/calibration/timing.h"
#include "tests/bench/json_output.h"
#include "tests/bench/packing/writing.h"

namespace lathe::bench {
namespace {

struct Arguments {
  int64_t size = 4096, rows = 4096, rounds = 9;
  int threads = 1;
  std::string folder = std::filesystem::temp_directory_path().string();
  int64_t write_mb = 512;
  std::string json;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("How fast codes become a target's tensors");
  app.add_option("--size", arguments.size, "inputs of the linear")->check(CLI::Range(128, 65536));
  app.add_option("--rows", arguments.rows, "outputs of the linear")->check(CLI::Range(64, 262144));
  app.add_option("--rounds", arguments.rounds)->check(CLI::Range(1, 1000));
  app.add_option("--threads", arguments.threads)->check(CLI::Range(1, 1024));
  app.add_option("--folder", arguments.folder, "on the disk that is measured")->check(CLI::ExistingDirectory);
  app.add_option("--write-mb", arguments.write_mb, "how much is written")->check(CLI::Range(8, 1 << 20));
  app.add_option("--json", arguments.json, "also write the figures here; - is stdout");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  return arguments;
}

/// Median of CPU seconds, after one round that doesn't count.
double seconds_of(int64_t rounds, const std::function<void()>& work) {
  std::vector<double> times;
  for (int64_t round = -1; round < rounds; ++round) {
    const double begin = process_cpu_seconds();
    work();
    if (round >= 0) times.push_back(process_cpu_seconds() - begin);
  }
  return median(times);
}

QuantizedTensor example(const Arguments& arguments, const Scheme& scheme) {
  at::manual_seed(1);
  QuantizedTensor tensor;
  tensor.scheme = scheme;
  const int64_t groups = scheme.groups(arguments.size);
  tensor.codes = at::randint(scheme.qmin(), scheme.qmax() + 1, {arguments.rows, arguments.size}, at::kChar);
  tensor.scales = (at::rand({arguments.rows, groups}) + 0.1).to(at::kHalf).to(at::kFloat);
  if (!scheme.symmetric) {
    tensor.zero_points = at::randint(scheme.qmin(), scheme.qmax() + 1, {arguments.rows, groups}, at::kChar);
  }
  return tensor;
}

struct Case {
  const char* target;
  Scheme scheme;
};

nlohmann::json measure(const Case& c, const Arguments& arguments) {
  const QuantizedTensor tensor = example(arguments, c.scheme);
  const Target& target = find_target(c.target);
  const auto bytes = static_cast<double>(tensor.codes.numel());
  double written = 0;
  for (const auto& [name, contents] : target.pack("m", tensor))
    written += static_cast<double>(contents.nbytes());
  const double packing = seconds_of(arguments.rounds, [&] { target.pack("m", tensor); });
  const double copying = seconds_of(arguments.rounds, [&] { tensor.codes.clone(); });
  return {{"target", c.target},
          {"scheme", c.scheme.describe()},
          {"pack_gb_per_second", bytes / packing / 1e9},
          {"written_gb_per_second", written / packing / 1e9},
          {"copy_gb_per_second", bytes / copying / 1e9}};
}

nlohmann::json measure_unpacking(int bits, const Arguments& arguments) {
  const QuantizedTensor tensor = example(arguments, {"int", bits, -1, true});
  const at::Tensor gptq = pack_gptq_words(tensor.codes, bits);
  const auto bytes = static_cast<double>(tensor.codes.numel());
  nlohmann::json row = {{"bits", bits}};
  row["gptq_gb_per_second"] =
      bytes / seconds_of(arguments.rounds, [&] { unpack_gptq_words(gptq, bits); }) / 1e9;
  if (bits != 4) return row;
  const at::Tensor awq = pack_awq_words(tensor.codes);
  row["awq_gb_per_second"] = bytes / seconds_of(arguments.rounds, [&] { unpack_awq_words(awq); }) / 1e9;
  return row;
}

int run(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  at::set_num_threads(arguments.threads);
  nlohmann::json result = {
      {"size", arguments.size}, {"rows", arguments.rows}, {"threads", arguments.threads}};
  fmt::print("[{}, {}], {} thread(s), GB a second of CPU time\n{:<20} {:<18} {:>8} {:>8} {:>8}\n",
             arguments.rows, arguments.size, arguments.threads, "target", "scheme", "codes", "written",
             "copy");
  for (const Case& c :
       {Case{"gptq", {"int", 2, 128, true}}, Case{"gptq", {"int", 3, 128, true}},
        Case{"gptq", {"int", 4, 128, true}}, Case{"gptq-v2", {"int", 4, 128, false}},
        Case{"gptq", {"int", 8, 128, true}}, Case{"awq", {"int", 4, 128, false}},
        Case{"awq-gemv", {"int", 4, 128, false}}, Case{"compressed-tensors", {"int", 4, 128, true}}}) {
    const nlohmann::json row = measure(c, arguments);
    fmt::print("{:<20} {:<18} {:8.2f} {:8.2f} {:8.2f}\n", c.target, c.scheme.describe(),
               row["pack_gb_per_second"].get<double>(), row["written_gb_per_second"].get<double>(),
               row["copy_gb_per_second"].get<double>());
    result["packing"].push_back(row);
  }
  for (const int bits : {2, 3, 4, 8}) result["unpacking"].push_back(measure_unpacking(bits, arguments));
  fmt::print("unpacking: {}\n", result["unpacking"].dump());
  const nlohmann::json writing = measure_writing(arguments.folder, arguments.write_mb);
  fmt::print("safetensors: {:.2f} GB/s to the medium; the disk takes {:.2f} GB/s of plain bytes\n",
             writing["write_gb_per_second"].get<double>(), writing["disk_gb_per_second"].get<double>());
  result["writing"] = writing;
  write_json(arguments.json, result);
  return 0;
}

}  // namespace
}  // namespace lathe::bench

int main(int argc, char** argv) { return lathe::bench::run(argc, argv); }
