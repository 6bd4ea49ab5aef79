#include "formats/gguf/exact_blocks.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "lib/base/error.h"
#include "lib/numeric/ggml_block.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

constexpr int64_t kRowsPerTask = 16;

/// Are all scales representable in F16, which blocks hold?
bool fit_half(const at::Tensor& scales) { return scales.to(at::kHalf).to(at::kFloat).equal(scales); }

}  // namespace

std::optional<GgmlType> exact_type(const Scheme& scheme, int64_t columns) {
  if (scheme.type != "int" || !scheme.symmetric || scheme.axis != 1 || scheme.scale_grid) return std::nullopt;
  const int64_t length = scheme.group_length(columns), block = traits(GgmlType::Q4_0).length;
  if (length % block != 0 || columns % length != 0) return std::nullopt;
  switch (scheme.bits) {
    case 4:
      return GgmlType::Q4_0;
    case 5:
      return GgmlType::Q5_0;
    case 8:
      return GgmlType::Q8_0;
    default:
      return std::nullopt;
  }
}

std::optional<at::Tensor> exact_blocks(GgmlType type, const QuantizedTensor& tensor) {
  const int64_t rows = tensor.rows(), columns = tensor.cols();
  LATHE_ASSERT(exact_type(tensor.scheme, columns) == type, "{} as {}", tensor.scheme.describe(),
               traits(type).name);
  if (tensor.group_index.defined() || tensor.outliers || !fit_half(tensor.scales)) return std::nullopt;
  const GgmlTraits& format = traits(type);
  const at::Tensor codes = tensor.codes.contiguous(), scales = tensor.scales.contiguous();
  at::Tensor blocks = at::empty({rows, row_bytes(type, columns)}, at::kByte);
  const int64_t blocks_in_group = tensor.scheme.group_length(columns) / format.length;
  const auto* const code = codes.const_data_ptr<int8_t>();
  const auto* const scale = scales.const_data_ptr<float>();
  auto* const out = blocks.data_ptr<uint8_t>();
  at::parallel_for(0, rows, kRowsPerTask, [&](int64_t begin, int64_t end) {
    GgmlBlock block;
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t b = 0; b < columns / format.length; ++b) {
        block.d = to_half(scale[row * scales.size(1) + b / blocks_in_group]);
        const int8_t* const from = code + row * columns + b * format.length;
        for (int64_t i = 0; i < format.length; ++i)
          block.codes[static_cast<size_t>(i)] = static_cast<uint8_t>(from[i] + format.offset);
        pack(type, block, out + row * row_bytes(type, columns) + b * format.bytes);
      }
    }
  });
  return blocks;
}

}  // namespace lathe
