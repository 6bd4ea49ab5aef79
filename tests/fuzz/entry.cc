#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "lib/base/error.h"
#include "tests/fuzz/fuzz.h"

namespace lathe::fuzz {
namespace {

[[noreturn]] void unusable(const std::string& path) {
  std::fprintf(stderr, "fuzz: can't be written: %s\n", path.c_str());
  std::exit(2);
}

}  // namespace

size_t refused = 0;

Folder::Folder() {
  const std::filesystem::path memory = "/dev/shm";
  const auto parent = std::filesystem::is_directory(memory) ? memory : std::filesystem::temp_directory_path();
  std::string pattern = (parent / "lathe-fuzz-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) unusable(pattern);
  path_ = pattern;
}

Folder::~Folder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::filesystem::path Folder::put(const char* name, std::string_view contents) const {
  std::filesystem::path path = path_ / name;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  if (!(file << contents << std::flush)) unusable(path.string());
  return path;
}

}  // namespace lathe::fuzz

extern "C" {

/// A finding of either sanitizer is an abort, which libFuzzer catches and keeps the input of.
const char* __asan_default_options() { return "abort_on_error=1:allocator_may_return_null=0"; }
const char* __ubsan_default_options() { return "abort_on_error=1:print_stacktrace=1"; }

/// GCC's, of floating-point numbers; libFuzzer has no use for them.
void __sanitizer_cov_trace_cmpf(float, float) {}
void __sanitizer_cov_trace_cmpd(double, double) {}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) noexcept {
  try {
    lathe::fuzz::read({reinterpret_cast<const char*>(data), size});
  } catch (const lathe::UserError&) {
    ++lathe::fuzz::refused;  // as promised; what else is thrown ends the program, by noexcept
  }
  return 0;
}
}
