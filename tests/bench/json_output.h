// What --json asks of a benchmark.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace lathe::bench {

/// To the file, to stdout where that is "-", nowhere where it is empty. Ends the program where it can't be
/// written.
inline void write_json(const std::string& file, const nlohmann::json& result) {
  if (file.empty()) return;
  if (file == "-") return fmt::print("{}\n", result.dump(2));
  std::ofstream out(file);
  out << result.dump(2) << "\n";
  if (out.flush()) return;
  fmt::print(stderr, "--json {}: could not be written\n", file);
  std::exit(2);
}

}  // namespace lathe::bench
