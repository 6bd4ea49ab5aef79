#include "lib/base/terminal.h"

#include <gtest/gtest.h>

namespace lathe {
namespace {

TEST(OneLine, ShowsWhatATerminalWouldObey) {
  EXPECT_EQ(one_line("plain \xC3\xA9"), "plain \xC3\xA9");
  EXPECT_EQ(one_line("a\r\nb\tc"), "a  b c");
  EXPECT_EQ(one_line(std::string("\x1b[2J\0\x7F\b", 7)), "\\x1b[2J\\x00\\x7f\\x08");
}

TEST(OneLine, IsCut) {
  EXPECT_EQ(one_line("12345", 5), "12345");
  EXPECT_EQ(one_line("123456", 5), "12345...");
}

}  // namespace
}  // namespace lathe
