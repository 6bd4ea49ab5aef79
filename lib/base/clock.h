// Wall time by stage and the process's memory, for reports.
#pragma once

#include <chrono>
#include <cstdint>

namespace lathe {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Peak resident set of this process in bytes (VmHWM).
uint64_t peak_rss_bytes();

}  // namespace lathe
