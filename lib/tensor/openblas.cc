#include "lib/tensor/openblas.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>
#include <string_view>

#include "lib/base/error.h"

namespace lathe {
namespace {

// From the CBLAS interface (https://www.netlib.org/blas/blast-forum/cblas.tgz); the wheel's names have a
// prefix.
constexpr int kRowMajor = 101, kNoTrans = 111, kTrans = 112, kUpper = 121;

int transposition(const BlasOperand& operand) { return operand.transposed ? kTrans : kNoTrans; }

int32_t int_of(int64_t size) {
  LATHE_ASSERT(size >= 0 && size <= std::numeric_limits<int32_t>::max(), "a matrix with {} rows or columns",
               size);
  return static_cast<int32_t>(size);
}

bool wanted() {
  const char* const choice = std::getenv("LATHE_BLAS");
  if (choice != nullptr) return std::string_view(choice) == "openblas";
#if defined(__x86_64__)
  __builtin_cpu_init();
  return !__builtin_cpu_is("intel") && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

template <class Function>
Function find(void* library, const char* name) {
  const auto function = reinterpret_cast<Function>(dlsym(library, name));
  LATHE_ASSERT(function != nullptr, "OpenBLAS has no {}", name);
  return function;
}

void* open_library() {
  // Our threads call it: it needs none of its own.
  setenv("OPENBLAS_NUM_THREADS", "1", /*overwrite=*/1);
  return dlopen("libscipy_openblas.so", RTLD_NOW | RTLD_LOCAL);
}

}  // namespace

const OpenBlas* OpenBlas::instance() {
  static const OpenBlas* const library = []() -> const OpenBlas* {
    if (!wanted()) return nullptr;
    void* const opened = open_library();
    return opened == nullptr ? nullptr : new OpenBlas(opened);
  }();
  return library;
}

OpenBlas::OpenBlas(void* library)
    : gemm_(find<Gemm>(library, "scipy_cblas_sgemm")), syrk_(find<Syrk>(library, "scipy_cblas_ssyrk")) {
  const std::string config = find<char* (*)()>(library, "scipy_openblas_get_config")();
  const std::string core = find<char* (*)()>(library, "scipy_openblas_get_corename")();
  // "OpenBLAS 0.3.34  DYNAMIC_ARCH ..."
  description_ =
      fmt::format("{}, {} kernels", config.substr(0, config.find(' ', config.find(' ') + 1)), core);
}

namespace {

/// What a call may take (BUFFER_SIZE of OpenBLAS 0.3 on x86-64, common_x86_64.h, and its alignment).
constexpr size_t kCallBytes = size_t{136} << 20;

/// OpenBLAS keeps a buffer for each call that runs beside others, and where the system (`ulimit -v`) has no
/// room for one more it prints and reads address 0. So whoever would need one more looks first:
/// std::bad_alloc.
class BufferGuard {
 public:
  BufferGuard() {
    const int running = ++running_;
    int most = most_;
    while (running > most && !most_.compare_exchange_weak(most, running)) {
    }
    if (running <= most) return;
    void* const room = ::mmap(nullptr, kCallBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room != MAP_FAILED) {
      ::munmap(room, kCallBytes);
      return;
    }
    --running_;
    most_ = 0;  // looked for again
    throw std::bad_alloc();
  }
  BufferGuard(const BufferGuard&) = delete;
  BufferGuard& operator=(const BufferGuard&) = delete;
  ~BufferGuard() { --running_; }

 private:
  static inline std::atomic<int> running_ = 0, most_ = 0;
};

}  // namespace

void OpenBlas::gemm(int64_t m, int64_t n, int64_t k, float alpha, BlasOperand a, BlasOperand b, float beta,
                    float* c, int64_t c_stride) const {
  const BufferGuard guard;
  gemm_(kRowMajor, transposition(a), transposition(b), int_of(m), int_of(n), int_of(k), alpha, a.data,
        int_of(a.stride), b.data, int_of(b.stride), beta, c, int_of(c_stride));
}

void OpenBlas::syrk(int64_t n, int64_t k, BlasOperand x, float* c, int64_t c_stride) const {
  const BufferGuard guard;
  syrk_(kRowMajor, kUpper, kTrans, int_of(n), int_of(k), 1.0F, x.data, int_of(x.stride), 0.0F, c,
        int_of(c_stride));
}

}  // namespace lathe
