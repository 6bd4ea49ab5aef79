// llama.cpp's importance matrix as a GGUF file: for each weight, the sum over tokens of the square of each
// input channel, and how many tokens that were. For a weight "blk.0.attn_q.weight" with rows of I values:
//   blk.0.attn_q.weight.in_sum2   F32 [matrices, I]   sums of x^2
//   blk.0.attn_q.weight.counts    F32 [matrices, 1]   tokens
// and keys general.type = "imatrix", imatrix.datasets (strings), imatrix.chunk_count and imatrix.chunk_size
// (u32). Source: llama.cpp, tools/imatrix/imatrix.cpp (save_imatrix) and tools/quantize/quantize.cpp
// (load_imatrix).
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "formats/gguf/tensor_map.h"

namespace lathe {

struct ImportanceMatrix {
  struct Entry {
    at::Tensor mean_square;      // FP32 [matrices, I], E[x^2]
    std::vector<double> tokens;  // of each matrix
  };
  std::map<std::string, Entry> entries;  // by the weight's name in a GGUF file
  std::vector<std::string> datasets;
  uint32_t chunks = 0, chunk_size = 0;

  /// FP32 [I], of a linear's matrix. UserError, naming `file`, where there is none or one of another model's
  /// widths.
  at::Tensor of(const GgufTensorRule& rule, const std::filesystem::path& file) const;
};

/// UserError naming the file, and key or tensor, for anything else than an importance matrix: a sum without
/// count, shapes that don't belong together, a value that is negative or not finite. A matrix that no token
/// reached (count 0; an expert) gets ones, as llama.cpp has it.
ImportanceMatrix read_imatrix(const std::filesystem::path& file);

/// A mean as it comes back from a file, which holds FP32 sums: so that a run and one that reads its matrix
/// use the same numbers.
at::Tensor stored_mean_square(const at::Tensor& mean_square, double tokens);

/// UserError naming the file where the disk fails.
void write_imatrix(const std::filesystem::path& file, const ImportanceMatrix& matrix);

}  // namespace lathe
