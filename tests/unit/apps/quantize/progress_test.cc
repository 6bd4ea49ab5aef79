// The progress bar without a terminal: a fake clock, and a string for stderr.
#include "apps/quantize/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace lathe {
namespace {

using testing::HasSubstr;

struct Screen {
  std::string text;
  double now = 100;

  Progress::Device device(bool terminal) {
    return {.terminal = terminal,
            .width = 60,
            .write = [this](std::string_view more) { text += more; },
            .seconds = [this] { return now; }};
  }
};

TEST(RenderProgress, ShowsBlocksRateAndTimeLeft) {
  const ProgressState state{
      .stage = "calibrate", .note = "mlp", .done = 3, .total = 12, .tokens = 4000, .seconds = 20};
  EXPECT_EQ(render_progress(state, 100),
            "calibrate [#####...............] 3/12 blocks  200 tok/s  ETA 1:00  mlp");
}

TEST(RenderProgress, HoursAndThousands) {
  const ProgressState state{
      .stage = "s", .note = "", .done = 1, .total = 80, .tokens = 2'500'000, .seconds = 100};
  EXPECT_THAT(render_progress(state, 100), HasSubstr("25.0k tok/s  ETA 2:11:40"));
}

TEST(RenderProgress, NeverFillsTheLine) {
  const ProgressState state{
      .stage = "calibrate", .note = std::string(200, 'x'), .done = 1, .total = 2, .tokens = 0, .seconds = 1};
  EXPECT_EQ(render_progress(state, 60).size(), 59u);
}

TEST(Progress, RedrawsOneLineOnATerminal) {
  Screen screen;
  Progress progress(screen.device(true));
  progress.begin("calibrate", 2);
  screen.now += 1;
  progress.advance(1, 0, "");
  screen.now += 1;
  progress.advance(2, 0, "");
  EXPECT_EQ(std::count(screen.text.begin(), screen.text.end(), '\n'), 0);
  EXPECT_EQ(std::count(screen.text.begin(), screen.text.end(), '\r'), 3);
  progress.end();
  EXPECT_THAT(screen.text, testing::EndsWith("\r\x1b[K"
                                             "calibrate: 2.0 s, 2/2 blocks\n"));
}

TEST(Progress, DoesNotRedrawForEveryStep) {
  Screen screen;
  Progress progress(screen.device(true));
  progress.begin("calibrate", 2);
  for (int i = 0; i < 1000; ++i) progress.advance(0, 0, "step");
  EXPECT_EQ(std::count(screen.text.begin(), screen.text.end(), '\r'), 1);
}

TEST(Progress, AnUnfinishedBarIsTakenAway) {
  Screen screen;
  {
    Progress progress(screen.device(true));
    progress.begin("calibrate", 2);
  }
  EXPECT_THAT(screen.text, testing::EndsWith("\r\x1b[K"));
}

TEST(Progress, PlainLinesWhenPiped) {
  Screen screen;
  Progress progress(screen.device(false));
  progress.begin("calibrate", 3);
  for (int block = 1; block <= 3; ++block) {
    screen.now += 2;
    progress.advance(block, block * 100, "");
  }
  progress.line("hello");
  progress.end();
  EXPECT_EQ(screen.text,
            "calibrate: 0/3 blocks\ncalibrate: 1/3 blocks  50 tok/s  ETA 0:04\ncalibrate: 2/3 blocks  50 "
            "tok/s  ETA 0:02\n"
            "calibrate: 3/3 blocks  50 tok/s\nhello\ncalibrate: 6.0 s, 3/3 blocks, 50 tok/s\n");
}

TEST(Progress, PipedLinesAreFewButTheLastAlwaysComes) {
  Screen screen;
  Progress progress(screen.device(false));
  progress.begin("quick", 100);
  for (int block = 1; block <= 100; ++block) {
    screen.now += 0.05;
    progress.advance(block, 0, "");
  }
  EXPECT_LE(std::count(screen.text.begin(), screen.text.end(), '\n'), 7);
  EXPECT_THAT(screen.text, HasSubstr("quick: 100/100 blocks\n"));
}

TEST(Progress, QuietSaysNothing) {
  testing::internal::CaptureStderr();
  {
    Progress progress(true);
    progress.begin("calibrate", 1);
    progress.line("text");
    progress.advance(1, 5, "");
    progress.end();
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace lathe
