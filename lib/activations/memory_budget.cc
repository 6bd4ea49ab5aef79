#include "lib/activations/memory_budget.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

/// One kind of memory: where its bytes and its limit stand, and what a person calls them.
struct Kind {
  uint64_t MemoryBytes::*bytes;
  std::optional<uint64_t> MemoryLimits::*limit;
  const char* flag;
};
constexpr Kind kKinds[] = {{&MemoryBytes::ram, &MemoryLimits::ram, "--max-ram"},
                           {&MemoryBytes::vram, &MemoryLimits::vram, "--max-vram"},
                           {&MemoryBytes::disk, &MemoryLimits::disk, "--max-disk"}};

bool keeps(const MemoryBytes& way, const MemoryLimits& limits, const Kind& kind) {
  const auto& limit = limits.*kind.limit;
  return !limit || way.*kind.bytes <= *limit;
}

/// The smallest peak of one kind among ways that keep every other limit.
std::optional<uint64_t> smallest(const std::vector<MemoryBytes>& ways, const MemoryLimits& limits,
                                 const Kind& kind) {
  std::optional<uint64_t> least;
  for (const MemoryBytes& way : ways) {
    const bool others = std::all_of(std::begin(kKinds), std::end(kKinds), [&](const Kind& other) {
      return other.bytes == kind.bytes || keeps(way, limits, other);
    });
    if (others && (!least || way.*kind.bytes < *least)) least = way.*kind.bytes;
  }
  return least;
}

/// What a refusal names where a way takes `bytes`.
uint64_t sufficient(uint64_t bytes, const Kind& kind) {
  return kind.bytes == &MemoryBytes::ram ? bytes + kRunsDiffer : bytes;
}

}  // namespace

MemoryBytes max_of(const MemoryBytes& a, const MemoryBytes& b) {
  return {std::max(a.ram, b.ram), std::max(a.vram, b.vram), std::max(a.disk, b.disk)};
}

std::string limit_text(uint64_t bytes) { return fmt::format("{}MiB", (bytes + kMiB - 1) / kMiB); }

std::optional<size_t> first_way(const std::vector<MemoryBytes>& ways, const MemoryLimits& limits) {
  for (size_t i = 0; i < ways.size(); ++i) {
    if (std::all_of(std::begin(kKinds), std::end(kKinds),
                    [&](const Kind& kind) { return keeps(ways[i], limits, kind); })) {
      return i;
    }
  }
  return std::nullopt;
}

size_t choose_way(const std::vector<MemoryBytes>& ways, const MemoryLimits& limits, const std::string& what,
                  const std::string& instead) {
  LATHE_ASSERT(!ways.empty(), "{}: no way to run", what);
  if (const auto first = first_way(ways, limits)) return *first;
  std::vector<std::string> ways_out;
  MemoryBytes needed;
  for (const Kind& kind : kKinds) {
    const auto& limit = limits.*kind.limit;
    const auto least = smallest(ways, limits, kind);
    if (!limit || !least || *least <= *limit) continue;
    needed.*kind.bytes = sufficient(*least, kind);
    ways_out.push_back(fmt::format("{} {} (the limit is {})", kind.flag, limit_text(needed.*kind.bytes),
                                   human_bytes(*limit)));
  }
  if (ways_out.empty()) {  // no single limit is the culprit: name what the leanest way takes
    const MemoryBytes leanest = *std::min_element(ways.begin(), ways.end(), [](const auto& a, const auto& b) {
      return std::pair(a.ram + a.vram, a.disk) < std::pair(b.ram + b.vram, b.disk);
    });
    for (const Kind& kind : kKinds) {
      if (!keeps(leanest, limits, kind)) {
        needed.*kind.bytes = sufficient(leanest.*kind.bytes, kind);
        ways_out.push_back(fmt::format("{} {} (the limit is {})", kind.flag, limit_text(needed.*kind.bytes),
                                       human_bytes(*(limits.*kind.limit))));
      }
    }
    throw MemoryRefused(fmt::format("{} does not fit in the memory it may take; it needs {} together; or {}",
                                    what, join_words(ways_out), instead),
                        needed);
  }
  std::string choice = ways_out.front();
  for (size_t i = 1; i < ways_out.size(); ++i) choice += ", or " + ways_out[i];
  throw MemoryRefused(
      fmt::format("{} does not fit in the memory it may take; the smallest limit that would do is {}; or {}",
                  what, choice, instead),
      needed);
}

MemoryLimits effective_limits(const MemoryLimits& limits, const MachineMemory& machine) {
  const auto either = [](const std::optional<uint64_t>& limit, const std::optional<uint64_t>& free) {
    if (limit || !free) return limit;
    return std::optional(*free / 10 * 9);
  };
  return {either(limits.ram, machine.ram), either(limits.vram, machine.vram),
          either(limits.disk, machine.disk)};
}

}  // namespace lathe
