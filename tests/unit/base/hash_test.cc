#include "lib/base/hash.h"

#include <gtest/gtest.h>

#include <string_view>

namespace lathe {
namespace {

TEST(Hash, KnownAnswers) {
  // From `xxhsum -H2`.
  const auto hash = [](std::string_view text) { return content_hash(std::as_bytes(std::span(text))); };
  EXPECT_EQ(hash(""), "xxh3-128:99aa06d3014798d86001c324468d497f");
  EXPECT_NE(hash("a"), hash("b"));
  EXPECT_EQ(hash("lathe"), hash("lathe"));
}

}  // namespace
}  // namespace lathe
