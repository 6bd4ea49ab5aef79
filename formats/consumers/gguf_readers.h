// Who reads a GGUF file: consumers with the block types that each has kernels for, or dequantises, and where
// that was read.
#pragma once

#include <vector>

#include "lib/numeric/ggml_type.h"

namespace lathe {

struct GgufReader {
  const char *consumer, *through, *source;  // through: null where it reads no GGUF file
  std::vector<GgmlType> types = {};         // that it reads
};
const std::vector<GgufReader>& gguf_readers();

}  // namespace lathe
