// ggml's own quantisers and dequantisers, opened at run time (build_ggml.sh makes the library).
#pragma once

#include <cstdint>
#include <string>

#include "lib/numeric/ggml_type.h"

namespace lathe::bench {

class GgmlLibrary {
 public:
  /// UserError where the library or one of its functions is missing.
  explicit GgmlLibrary(const std::string& path);

  /// importance: [columns] or null.
  void quantize(GgmlType type, const float* weight, const float* importance, int64_t rows, int64_t columns,
                uint8_t* blocks) const;
  void dequantize(GgmlType type, const uint8_t* blocks, int64_t count, float* values) const;

 private:
  void* symbol(const std::string& name) const;

  std::string path_;
  void* library_ = nullptr;
};

}  // namespace lathe::bench
