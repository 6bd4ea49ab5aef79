// A target without libFuzzer: every file of the given folders as it is, cut off at many places, and with
// bytes changed, the same each time. What `make test` runs; and whoever has a finding's input, under a
// debugger.
//
//   replay_<target> FOLDER|FILE...
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <string>

#include "tests/fuzz/fuzz.h"

extern "C" {
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) noexcept;
void __wrap___sanitizer_cov_trace_pc() {}
}

namespace {

namespace fs = std::filesystem;

constexpr size_t kCuts = 48, kChanges = 96;

size_t inputs = 0, taken = 0;

void run(const std::string& input) {
  ++inputs;
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void run_all_of(const fs::path& path) {
  const std::string seed = contents(path);
  const size_t before = lathe::fuzz::refused;
  run(seed);
  if (lathe::fuzz::refused == before) ++taken;
  if (seed.empty()) return;
  for (size_t i = 1; i <= kCuts; ++i) run(seed.substr(0, seed.size() * i / (kCuts + 1)));
  std::mt19937_64 dice(seed.size());
  for (size_t i = 0; i < kChanges; ++i) {
    std::string changed = seed;
    for (uint64_t left = dice() % 3 + 1; left > 0; --left)
      changed[dice() % changed.size()] = static_cast<char>(dice());
    run(changed);
  }
}

}  // namespace

int main(int count, char** arguments) {
  std::set<fs::path> seeds;
  for (int i = 1; i < count; ++i) {
    if (fs::is_regular_file(arguments[i])) seeds.insert(arguments[i]);
    if (!fs::is_directory(arguments[i])) continue;
    for (const auto& entry : fs::directory_iterator(arguments[i])) {
      if (entry.is_regular_file()) seeds.insert(entry.path());
    }
  }
  for (const fs::path& seed : seeds) run_all_of(seed);
  std::printf("%zu seeds (%zu taken), %zu inputs (%zu refused), no finding\n", seeds.size(), taken, inputs,
              lathe::fuzz::refused);
  if (taken == 0) std::printf("no seed was taken: nothing behind the first check was read\n");
  return taken == 0 ? 1 : 0;
}
