#include "apps/quantize/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

namespace lathe {
namespace {

constexpr double kRedrawSeconds = 0.1;  // on a terminal
constexpr double kLineSeconds = 1.0;    // piped: at most one line in this time, but the last one always
constexpr int kBarCells = 20;

/// "0:12", "1:02:33".
std::string clock_text(double seconds) {
  const auto total = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  if (total < 3600) return fmt::format("{}:{:02}", total / 60, total % 60);
  return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
}

std::string rate_text(double rate) {
  return rate >= 10'000 ? fmt::format("{:.1f}k tok/s", rate / 1000) : fmt::format("{:.0f} tok/s", rate);
}

int terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/// "3/6 blocks  1234 tok/s  ETA 0:12  note"
std::string describe(const ProgressState& state) {
  std::string text =
      state.total > 0 ? fmt::format("{}/{} blocks", state.done, state.total) : fmt::format("{}", state.done);
  if (state.tokens > 0 && state.seconds > 0) {
    text += "  " + rate_text(static_cast<double>(state.tokens) / state.seconds);
  }
  if (state.done > 0 && state.done < state.total) {
    const double remaining = static_cast<double>(state.total - state.done) / static_cast<double>(state.done);
    text += "  ETA " + clock_text(state.seconds * remaining);
  }
  if (!state.note.empty()) text += "  " + state.note;
  return text;
}

/// Standard error itself, unbuffered: the bar must not wait in a buffer, nor mix with one.
void write_stderr(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    if (written <= 0) return;  // nobody reads: progress is not worth an error
    text.remove_prefix(static_cast<size_t>(written));
  }
}

double monotonic_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

std::string render_progress(const ProgressState& state, int width) {
  std::string text = state.stage + " ";
  if (state.total > 0) {
    const int64_t filled = kBarCells * std::clamp<int64_t>(state.done, 0, state.total) / state.total;
    text += fmt::format("[{:.<{}}] ", std::string(static_cast<size_t>(filled), '#'), kBarCells);
  }
  text += describe(state);
  // One column stays free: a full line would wrap on some terminals and then not be redrawn in place.
  const auto limit = static_cast<size_t>(std::max(1, width - 1));
  if (text.size() > limit) text.resize(limit);
  return text;
}

Progress::Progress(bool quiet)
    : quiet_(quiet),
      device_{.terminal = isatty(STDERR_FILENO) == 1,
              .width = 0,
              .write = write_stderr,
              .seconds = monotonic_seconds} {}

Progress::Progress(Device device) : device_(std::move(device)) {}

Progress::~Progress() { erase(); }

void Progress::erase() {
  if (drawn_) device_.write("\r\x1b[K");
  drawn_ = false;
}

void Progress::draw() {
  state_.seconds = device_.seconds() - started_;
  if (device_.terminal) {
    const int width = device_.width > 0 ? device_.width : terminal_width();
    device_.write("\r\x1b[K" + render_progress(state_, width));
    drawn_ = true;
  } else {
    device_.write(fmt::format("{}: {}\n", state_.stage, describe(state_)));
  }
  last_drawn_ = device_.seconds();
  last_done_ = state_.done;
}

void Progress::begin(std::string stage, int64_t total) {
  end();
  if (quiet_) return;
  active_ = true;
  state_ = {.stage = std::move(stage), .note = {}, .done = 0, .total = total, .tokens = 0, .seconds = 0};
  started_ = device_.seconds();
  last_done_ = 0;
  draw();
}

void Progress::advance(int64_t done, int64_t tokens_done, std::string_view note) {
  if (quiet_ || !active_) return;
  state_.done = done;
  state_.tokens = tokens_done;
  state_.note = note;
  const double since = device_.seconds() - last_drawn_;
  const bool finished_block = done != last_done_;
  const bool last = state_.total > 0 && done >= state_.total && finished_block;
  const bool due =
      device_.terminal ? since >= kRedrawSeconds || finished_block : finished_block && since >= kLineSeconds;
  if (due || last) draw();
}

void Progress::end() {
  if (!active_) return;
  active_ = false;
  erase();
  const double seconds = device_.seconds() - started_;
  std::string text = fmt::format("{}: {:.1f} s", state_.stage, seconds);
  if (state_.total > 0) text += fmt::format(", {}/{} blocks", state_.done, state_.total);
  if (state_.tokens > 0 && seconds > 0)
    text += ", " + rate_text(static_cast<double>(state_.tokens) / seconds);
  device_.write(text + "\n");
}

void Progress::line(std::string_view text) {
  if (quiet_) return;
  erase();
  device_.write(std::string(text) + "\n");
  if (active_ && device_.terminal) draw();
}

}  // namespace lathe
