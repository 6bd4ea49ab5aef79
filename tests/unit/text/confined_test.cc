// Templates that would take a process down: each is refused with a reason, and the next rendering is as good
// as ever.
#include "lib/text/jinja/confined.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <iterator>
#include <memory>

namespace lathe::text {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;

std::string repeat(const std::string& text, size_t count) {
  std::string all;
  for (size_t i = 0; i < count; ++i) all += text;
  return all;
}

/// What reading and running the template throws.
std::string failure_of(const std::string& source, TemplateLimits limits = {}) {
  try {
    parse_confined(source, limits)->run({{"x", 1}});
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no failure";
}

size_t open_files() {
  const std::filesystem::directory_iterator files("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(files), end(files)));
}

TEST(Confined, RunsAgainAndAgain) {
  const auto program = parse_confined("{{ a }}{% for b in c %}{{ b }}{% endfor %}");
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(program->run({{"a", "\u00e9" + std::to_string(i)}, {"c", {1, 2.5, "z"}}}),
              "\u00e9" + std::to_string(i) + "12.5z");
  EXPECT_EQ(program->run({{"a", std::string(3 << 20, 'x')}, {"c", ordered_json::array()}}).size(),
            size_t{3} << 20);
}

TEST(Confined, WhatIsNestedTooDeeply) {
  constexpr size_t kDeep = 200'000;
  EXPECT_THAT(failure_of("{{ " + repeat("(", kDeep) + "1" + repeat(")", kDeep) + " }}"),
              HasSubstr("too deeply"));
  EXPECT_THAT(failure_of(repeat("{% if x %}", kDeep) + repeat("{% endif %}", kDeep)),
              HasSubstr("too deeply"));
  EXPECT_THAT(failure_of("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), HasSubstr("too deeply"));
}

TEST(Confined, WhatNeverEnds) {
  const std::string loop = "{% for a in range(10000) %}";
  EXPECT_THAT(failure_of(loop + loop + loop + repeat("{% endfor %}", 3), {.seconds = 1}),
              HasSubstr("it takes more than 1 seconds"));
}

TEST(Confined, WhatTakesAllMemory) {
  const TemplateLimits small{.bytes = uint64_t{64} << 20};
  for (const char* source :
       {"{% for i in range(100000000000) %}x{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"})
    EXPECT_THAT(failure_of(source, small), HasSubstr("memory")) << source;
}

TEST(Confined, GoesOnAfterAFailure) {
  const size_t before = open_files();
  const auto program =
      parse_confined("{% macro f() %}{{ f() }}{% endmacro %}{{ f() if x == 'deep' else x }}");
  for (int i = 0; i < 3; ++i) {
    EXPECT_THROW(program->run({{"x", "deep"}}), std::runtime_error);
    EXPECT_EQ(program->run({{"x", "fine"}}), "fine");
  }
  EXPECT_EQ(open_files(), before + 1) << "one socket";
  for (int i = 0; i < 3; ++i) EXPECT_NE(failure_of("{% if %}"), "no failure");
  EXPECT_EQ(open_files(), before + 1) << "a template that can't be read leaves nothing";
}

}  // namespace
}  // namespace lathe::text
