#include "lib/report/cells.h"

#include <fmt/format.h>

#include <cmath>

namespace lathe {

std::string short_number(double value) { return std::isfinite(value) ? fmt::format("{:.4g}", value) : "n/a"; }
std::string short_number(const std::optional<double>& value) { return value ? short_number(*value) : "-"; }

std::string cell(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    if (c == '|') safe += '\\';
    safe += c == '\n' || c == '\r' ? ' ' : c;
  }
  return safe;
}

std::string threads_text(int threads) { return fmt::format("{} thread{}", threads, threads == 1 ? "" : "s"); }

}  // namespace lathe
