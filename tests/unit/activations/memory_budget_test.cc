// The first way that keeps the limits; else the smallest limit that would do.
#include "lib/activations/memory_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/error.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kMiB = uint64_t{1} << 20;

MemoryBytes mib(uint64_t ram, uint64_t vram, uint64_t disk) { return {ram * kMiB, vram * kMiB, disk * kMiB}; }

/// Fast and large, then slower and smaller.
const std::vector<MemoryBytes> kWays = {mib(900, 0, 0), mib(500, 0, 400), mib(400, 0, 800)};

std::string refusal(const std::vector<MemoryBytes>& ways, const MemoryLimits& limits) {
  try {
    choose_way(ways, limits, "calibration");
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(MemoryBudget, TakesTheFirstWayThatKeepsEveryLimit) {
  EXPECT_EQ(choose_way(kWays, {}, "calibration"), 0u);
  EXPECT_EQ(choose_way(kWays, {.ram = 900 * kMiB, .vram = {}, .disk = {}}, "calibration"), 0u);
  EXPECT_EQ(choose_way(kWays, {.ram = 900 * kMiB - 1, .vram = {}, .disk = {}}, "calibration"), 1u);
  EXPECT_EQ(choose_way(kWays, {.ram = 400 * kMiB, .vram = {}, .disk = {}}, "calibration"), 2u);
  EXPECT_EQ(choose_way(kWays, {.ram = {}, .vram = {}, .disk = 0}, "calibration"), 0u);
}

TEST(MemoryBudget, NamesTheSmallestLimitThatWouldDo) {
  const std::string message = refusal(kWays, {.ram = 300 * kMiB, .vram = {}, .disk = {}});
  EXPECT_THAT(message, HasSubstr("--max-ram 408MiB (the limit is 300.0 MiB)"));
  EXPECT_THAT(message, Not(HasSubstr("--max-disk")));
}

TEST(MemoryBudget, OffersEitherLimitWhereOneOfTwoWouldDo) {
  const std::string message = refusal(kWays, {.ram = 450 * kMiB, .vram = {}, .disk = 500 * kMiB});
  EXPECT_THAT(message, HasSubstr("--max-ram 508MiB"));
  EXPECT_THAT(message, HasSubstr("or --max-disk 800MiB"));
}

TEST(MemoryBudget, WhatItNamesIsEnough) {
  for (const uint64_t disk : {0, 400, 500, 900}) {
    const MemoryLimits limits{.ram = 10, .vram = {}, .disk = disk * kMiB};
    const std::string message = refusal(kWays, limits);
    const size_t at = message.find("--max-ram ") + 10;
    const uint64_t named = std::stoull(message.substr(at)) * kMiB;
    EXPECT_NO_THROW(choose_way(kWays, {.ram = named, .vram = {}, .disk = limits.disk}, "calibration"));
    EXPECT_THROW(
        choose_way(kWays, {.ram = named - kRunsDiffer - 1, .vram = {}, .disk = limits.disk}, "calibration"),
        UserError);
  }
}

TEST(MemoryBudget, SaysBothWhereNoSingleLimitIsTheCulprit) {
  const std::string message =
      refusal({mib(500, 300, 0)}, {.ram = 100 * kMiB, .vram = 100 * kMiB, .disk = {}});
  EXPECT_THAT(message, HasSubstr("--max-ram 508MiB"));
  EXPECT_THAT(message, HasSubstr("and --max-vram 300MiB"));
}

TEST(MemoryBudget, SizesAreRoundedUp) {
  EXPECT_EQ(limit_text(kMiB), "1MiB");
  EXPECT_EQ(limit_text(kMiB + 1), "2MiB");
}

TEST(MemoryBudget, TheMachineLimitsWhatTheUserDoesNot) {
  const MemoryLimits limits =
      effective_limits({.ram = 70, .vram = {}, .disk = {}}, {.ram = 10, .vram = 200, .disk = {}});
  EXPECT_EQ(limits.ram, 70u);
  EXPECT_EQ(limits.vram, 180u);
  EXPECT_EQ(limits.disk, std::nullopt);
}

}  // namespace
}  // namespace lathe
