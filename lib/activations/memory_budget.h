// Memory by kind, limits on it, and the choice among ways to run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/error.h"

namespace lathe {

/// Bytes at the peak: resident memory of the process (RAM), of the compute device where that is not the CPU
/// (VRAM), and of temporary files (disk).
struct MemoryBytes {
  uint64_t ram = 0, vram = 0, disk = 0;
  friend MemoryBytes operator+(MemoryBytes a, MemoryBytes b) {
    return {a.ram + b.ram, a.vram + b.vram, a.disk + b.disk};
  }
  bool operator==(const MemoryBytes&) const = default;
};
/// The larger of each kind.
MemoryBytes max_of(const MemoryBytes& a, const MemoryBytes& b);

/// Limits, bytes; empty: none.
struct MemoryLimits {
  std::optional<uint64_t> ram, vram, disk;
  bool operator==(const MemoryLimits&) const = default;
};

/// What the machine has to give now.
struct MachineMemory {
  std::optional<uint64_t> ram, vram, disk;  // empty: not known
};

/// Index of the first way whose peak keeps the limits, if there is one. `ways`: peaks of ways to run, best
/// first.
std::optional<size_t> first_way(const std::vector<MemoryBytes>& ways, const MemoryLimits& limits);

/// By less than this the program's own memory differs between two runs of one recipe: what is held is counted
/// in whole steps of it, and a limit on RAM that is named leaves one more, so that it does next time, too.
inline constexpr uint64_t kRunsDiffer = uint64_t{8} << 20;

/// A limit is too small; `least`: what would do, of each kind that is to be raised.
class MemoryRefused : public UserError {
 public:
  MemoryRefused(const std::string& message, MemoryBytes needed) : UserError(message), least(needed) {}
  MemoryBytes least;
};

/// Plans two phases of a run. Where both are refused, that one's refusal is thrown which asks for more, so
/// that the limit it names does for both.
template <class First, class Second>
void plan_phases(First&& first, Second&& second) {
  try {
    first();
  } catch (const MemoryRefused& refused) {
    try {
      second();
    } catch (const MemoryRefused& other) {
      if (other.least.ram > refused.least.ram || other.least.vram > refused.least.vram) throw other;
    }
    throw;
  }
  second();
}

/// The same of a list that is not empty. Where there is none, a MemoryRefused that names the limit to raise
/// and the smallest value that would do (the other limits kept); kinds for which no value would do are not
/// offered. `what`: "calibration", and what may be done `instead` of raising limits, for the error.
size_t choose_way(const std::vector<MemoryBytes>& ways, const MemoryLimits& limits, const std::string& what,
                  const std::string& instead = "take fewer or shorter samples");

/// The limits with the machine's own where the user gave none: nine tenths of what is free now.
MemoryLimits effective_limits(const MemoryLimits& limits, const MachineMemory& machine);

/// A size for --max-ram and the like, rounded up to whole MiB: "431MiB".
std::string limit_text(uint64_t bytes);

}  // namespace lathe
