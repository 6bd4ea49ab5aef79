#include "lib/base/hash.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "lib/base/file.h"

namespace lathe {
namespace {

TEST(Hash, KnownAnswers) {
  // From `xxhsum -H2`.
  const auto hash = [](std::string_view text) { return content_hash(std::as_bytes(std::span(text))); };
  EXPECT_EQ(hash(""), "xxh3-128:99aa06d3014798d86001c324468d497f");
  EXPECT_NE(hash("a"), hash("b"));
  EXPECT_EQ(hash("lathe"), hash("lathe"));
}

TEST(Hash, OfAFileIsOfItsBytes) {
  const auto path = std::filesystem::temp_directory_path() / ("lathe-hash-" + std::to_string(getpid()));
  for (const size_t size : {size_t{0}, size_t{5}, (size_t{9} << 20) + 3}) {
    std::string text(size, 'x');
    for (size_t i = 0; i < size; i += 1000) text[i] = static_cast<char>(i / 1000);
    write_file(path, text);
    EXPECT_EQ(content_hash_of_file(path), content_hash(std::as_bytes(std::span(text)))) << size;
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace lathe
