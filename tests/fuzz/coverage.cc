// GCC's -fsanitize-coverage=trace-pc for libFuzzer, whose runtime knows clang's other kinds of coverage only:
// each place that is passed counts in a table that libFuzzer looks at after each input ("extra counters").
// The linker puts this function in the place of the runtime's, which refuses (--wrap).
//
// The table is shared with processes that are forked (lib/text/jinja/confined.cc): what they pass counts,
// too.
#include <sys/mman.h>

#include <cstdint>

namespace {

constexpr int kBits = 16;
constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;  // 2^64 / golden ratio: Fibonacci hashing

[[gnu::section("__libfuzzer_extra_counters"), gnu::aligned(4096)]] uint8_t counters[1 << kBits];

[[gnu::constructor]] void share() {
  ::mmap(counters, sizeof counters, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

}  // namespace

extern "C" void __wrap___sanitizer_cov_trace_pc() {
  const auto place = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  uint8_t& counter = counters[place * kGolden >> (64 - kBits)];
  if (counter < UINT8_MAX) ++counter;
}
