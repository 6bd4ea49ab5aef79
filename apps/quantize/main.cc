// The command line: parse, set up signals and threads, run, and turn whatever went wrong into one line and an
// exit code.
#include <ATen/Parallel.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <iostream>

#include "apps/quantize/advise.h"
#include "apps/quantize/cli.h"
#include "apps/quantize/compare.h"
#include "apps/quantize/convert.h"
#include "apps/quantize/failure.h"
#include "apps/quantize/inspect.h"
#include "apps/quantize/list.h"
#include "apps/quantize/mapped_fault.h"
#include "apps/quantize/mixed/mixture.h"
#include "apps/quantize/pipeline.h"
#include "apps/quantize/verify.h"
#include "lib/base/cancel.h"
#include "lib/base/process_memory.h"
#include "lib/tensor/block_allocator.h"

namespace {

using namespace lathe;

extern "C" void on_signal(int) {
  // Only async-signal-safe calls here. The first signal asks for a clean end, the second one takes it.
  if (cancel_requested()) _exit(static_cast<int>(ExitCode::interrupted));
  request_cancel();
}

void install_signal_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before {};
    // A shell starts background jobs with SIGINT ignored; that stays so.
    if (sigaction(signal, nullptr, &before) == 0 && before.sa_handler == SIG_IGN) continue;
    sigaction(signal, &action, nullptr);
  }
}

/// Closed ones would be given to the next files opened, and what is printed would end in an artefact.
void open_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(stream, F_GETFD) == -1)
      static_cast<void>(open("/dev/null", O_RDWR));  // the lowest that is free
  }
}

void set_threads(int threads) {
  if (threads > 0) at::set_num_threads(threads);
}

/// stdout's reader may have left (`| head`), which is no failure; a full disk is one.
void flush_stdout() {
  std::cout.flush();
  const bool failed = std::fflush(stdout) != 0 || std::ferror(stdout) != 0 || !std::cout;
  if (!failed) return;
  pollfd descriptor{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
  const bool reader_left = poll(&descriptor, 1, 0) == 1 && (descriptor.revents & POLLERR) != 0;
  if (!reader_left)
    user_error("stdout: expected to write all output, but the system refused (is the disk full?)");
}

void print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

struct Dispatch {
  void operator()(const RunRequest& request) const {
    // Progress and the plan may go to a pipe that closes early; hours of work don't end for that. The other
    // commands keep the default, to die quietly.
    std::signal(SIGPIPE, SIG_IGN);
    set_threads(request.threads);
    run_pipeline(request);
  }
  void operator()(const SensitivityRequest& request) const {
    set_threads(request.run.threads);
    run_sensitivity(request);
  }
  void operator()(const EvalRequest& request) const {
    set_threads(request.threads);
    run_eval(request);
  }
  void operator()(const CompareRequest& request) const {
    set_threads(request.threads);
    run_compare(request);
  }
  void operator()(const AdviseRequest& request) const { print(advise_model(request)); }
  void operator()(const ConvertRequest& request) const {
    set_threads(request.threads);
    run_convert(request);
  }
  void operator()(const VerifyRequest& request) const {
    set_threads(request.threads);
    run_verify(request);
  }
  void operator()(const InspectRequest& request) const { print(inspect_folder(request)); }
  void operator()(const ListRequest& request) const { print(list_catalogue(request)); }
  void operator()(const PrintRequest& request) const { print(request.text); }
};

}  // namespace

int main(int argc, char** argv) {
  open_standard_streams();
  map_large_blocks();
  use_block_allocator();
  try {
    install_signal_handlers();
    install_mapped_fault_handler();
    std::visit(Dispatch{}, parse_command_line(argc, argv));
    flush_stdout();
    return static_cast<int>(ExitCode::ok);
  } catch (...) {
    const Failure failure = describe_failure(std::current_exception());
    std::fflush(stdout);
    std::fputs((failure.line + "\n").c_str(), stderr);
    return static_cast<int>(failure.code);
  }
}
