// Progress on stderr: one line redrawn in place on a terminal, plain lines where stderr is piped, nothing
// when quiet.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace lathe {

/// What one progress line shows.
struct ProgressState {
  std::string stage;            // "calibrate"
  std::string note;             // "block 3: solve gate, up"
  int64_t done = 0, total = 0;  // blocks; total 0: unknown
  int64_t tokens = 0;           // tokens done; 0: not counted
  double seconds = 0;           // since begin()
};

/// "calibrate [#####.....]  3/6 blocks  1234 tok/s  ETA 0:12  note", cut to `width` columns. Pure, for tests.
std::string render_progress(const ProgressState& state, int width);

class Progress {
 public:
  explicit Progress(bool quiet);

  /// Where lines go and how: for tests. `write` gets raw bytes; `seconds` is a monotonic clock.
  struct Device {
    bool terminal = false;
    int width = 80;  // columns; 0: ask the terminal each time
    std::function<void(std::string_view)> write;
    std::function<double()> seconds;
  };
  explicit Progress(Device device);

  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// Takes an unfinished line off the terminal, so that an error message starts on a clean one.
  ~Progress();

  /// Starts a stage of `total` steps (blocks). Ends the one before.
  void begin(std::string stage, int64_t total);
  /// `done` of `total` steps are finished, with `tokens_done` tokens in this stage so far (0: not counted).
  void advance(int64_t done, int64_t tokens_done, std::string_view note);
  /// Finishes the stage with one line that says what it took.
  void end();
  /// One line of text above the bar.
  void line(std::string_view text);

 private:
  void draw();
  void erase();

  bool quiet_ = false;
  Device device_;
  bool active_ = false;  // between begin() and end()
  bool drawn_ = false;   // the bar stands on the terminal's last line
  ProgressState state_;
  double started_ = 0, last_drawn_ = 0;
  int64_t last_done_ = 0;
};

}  // namespace lathe
