#include "lib/base/process_memory.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

namespace lathe {
namespace {

/// The first number of a text, "  1234 kB" -> 1234.
std::optional<uint64_t> leading_number(std::string_view text) {
  const size_t start = text.find_first_of("0123456789");
  uint64_t value = 0;
  if (start == std::string_view::npos) return std::nullopt;
  const auto [end, code] = std::from_chars(text.data() + start, text.data() + text.size(), value);
  return code == std::errc() ? std::optional(value) : std::nullopt;
}

/// "Key:   1234 kB" of a file under /proc, in bytes.
std::optional<uint64_t> proc_bytes(const char* file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key)) continue;
    const auto kib = leading_number(std::string_view(line).substr(key.size()));
    return kib ? std::optional(*kib * 1024) : std::nullopt;
  }
  return std::nullopt;
}

std::optional<uint64_t> file_number(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  if (!std::getline(in, line)) return std::nullopt;
  return leading_number(line);  // "max" is no number: no limit
}

/// "anon 1234" of a group's memory.stat.
std::optional<uint64_t> group_number(const std::string& folder, const std::string& key) {
  std::ifstream stat(folder + "/memory.stat");
  for (std::string entry; std::getline(stat, entry);) {
    if (entry.starts_with(key + " ")) return leading_number(std::string_view(entry).substr(key.size()));
  }
  return std::nullopt;
}

/// What the process' own control group leaves. Page cache that the group holds can be reclaimed, so only
/// anonymous memory counts as taken.
std::optional<uint64_t> group_bytes() {
  std::ifstream in("/proc/self/cgroup");
  std::optional<uint64_t> left;
  for (std::string line; std::getline(in, line);) {
    const auto controllers = line.find(':'), path = line.find(':', controllers + 1);
    if (path == std::string::npos) continue;
    const std::string which = line.substr(controllers + 1, path - controllers - 1);
    std::string folder = "/sys/fs/cgroup";
    std::optional<uint64_t> limit;
    const char* taken = nullptr;
    if (which.empty()) {  // version 2
      folder += line.substr(path + 1);
      limit = file_number(folder + "/memory.max");
      taken = "anon";
    } else if (which == "memory") {  // version 1, whose groups above may be narrower
      folder += "/memory" + line.substr(path + 1);
      limit = group_number(folder, "hierarchical_memory_limit");
      taken = "total_rss";
    }
    if (!limit) continue;
    const uint64_t held = group_number(folder, taken).value_or(0);
    left = std::min(left.value_or(UINT64_MAX), *limit > held ? *limit - held : 0);
  }
  return left;
}

/// What also_release() was given.
std::atomic<void (*)()> other_release = nullptr;

}  // namespace

uint64_t resident_bytes() { return proc_bytes("/proc/self/status", "VmRSS:").value_or(0); }
uint64_t peak_rss_bytes() { return proc_bytes("/proc/self/status", "VmHWM:").value_or(0); }

std::optional<uint64_t> available_memory() {
  const auto machine = proc_bytes("/proc/meminfo", "MemAvailable:");
  const auto group = group_bytes();
  if (machine && group) return std::min(*machine, *group);
  return machine ? machine : group;
}

void map_large_blocks() {
  ::mallopt(M_MMAP_THRESHOLD, kMappedBytes);
  ::mallopt(M_TRIM_THRESHOLD, 2 * kMappedBytes);  // as glibc keeps the two
}

void also_release(void (*release)()) { other_release = release; }

void release_free_memory() {
  if (void (*const release)() = other_release) release();
  ::malloc_trim(0);
}

}  // namespace lathe
