#include "tests/bench/ggml_blocks/ggml_library.h"

#include <dlfcn.h>

#include <algorithm>

#include "lib/base/error.h"

namespace lathe::bench {
namespace {

// ggml.h: size_t ggml_quantize_chunk(enum ggml_type, const float* src, void* dst, int64_t start, int64_t
// nrows, int64_t n_per_row, const float* imatrix).
using Quantize = size_t (*)(int, const float*, void*, int64_t, int64_t, int64_t, const float*);
// ggml-quants.h: void dequantize_row_<type>(const block*, float*, int64_t).
using Dequantize = void (*)(const void*, float*, int64_t);

/// "Q4_K" is spelt "q4_K" in the names of functions, "IQ4_NL" "iq4_nl".
std::string lower(std::string_view name) {
  std::string result(name);
  std::ranges::transform(result, result.begin(), [](unsigned char c) { return std::tolower(c); });
  if (result.ends_with("_k")) result.back() = 'K';
  return result;
}

}  // namespace

GgmlLibrary::GgmlLibrary(const std::string& path)
    : path_(path), library_(dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL)) {
  if (library_ == nullptr) user_error("{}; tests/bench/ggml_blocks/build_ggml.sh builds it", dlerror());
}

void* GgmlLibrary::symbol(const std::string& name) const {
  void* const function = dlsym(library_, name.c_str());
  if (function == nullptr) user_error("{}: has no function {}", path_, name);
  return function;
}

void GgmlLibrary::quantize(GgmlType type, const float* weight, const float* importance, int64_t rows,
                           int64_t columns, uint8_t* blocks) const {
  reinterpret_cast<Quantize>(symbol("ggml_quantize_chunk"))(static_cast<int>(traits(type).id), weight, blocks,
                                                            0, rows, columns, importance);
}

void GgmlLibrary::dequantize(GgmlType type, const uint8_t* blocks, int64_t count, float* values) const {
  reinterpret_cast<Dequantize>(symbol("dequantize_row_" + lower(traits(type).name)))(blocks, values, count);
}

}  // namespace lathe::bench
