#include "lib/kernels/ggml_exact.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <array>
#include <cmath>

#include "lib/base/error.h"
#include "lib/numeric/ggml_block.h"
#include "lib/numeric/mxint8.h"

namespace lathe::kernels {
namespace {

constexpr int64_t kBlock = 32;
constexpr std::array<GgmlType, 5> kBySize = {GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q5_0, GgmlType::Q5_1,
                                             GgmlType::Q8_0};

bool is_half(double value) { return from_half(to_half(static_cast<float>(value))) == value; }

/// Lathe's codes and ggml's are both E2M1's bits; 2^k is e = k + 127 (2^(e - 128) for levels twice as large).
ExactBlocks mxfp4_blocks(const QuantizedTensor& tensor) {
  if (tensor.scheme.type != "mxfp4")
    return {{}, fmt::format("MXFP4 holds codes of scheme mxfp4, not {}", tensor.scheme.describe())};
  const at::Tensor codes = tensor.codes.contiguous(), scales = tensor.scales.to(at::kFloat).contiguous();
  const auto* code = codes.const_data_ptr<int8_t>();
  const auto* scale = scales.const_data_ptr<float>();
  const int64_t bytes = traits(GgmlType::MXFP4).bytes;
  at::Tensor blocks = at::empty({tensor.rows(), row_bytes(GgmlType::MXFP4, tensor.cols())}, at::kByte);
  uint8_t* const out = blocks.data_ptr<uint8_t>();
  at::parallel_for(0, scales.numel(), 1024, [&](int64_t begin, int64_t end) {
    GgmlBlock block;
    for (int64_t b = begin; b < end; ++b) {
      block.d = static_cast<uint16_t>(std::ilogb(scale[b]) + 127);
      for (int64_t i = 0; i < kBlock; ++i)
        block.codes[static_cast<size_t>(i)] = static_cast<uint8_t>(code[b * kBlock + i] & 15);
      pack(GgmlType::MXFP4, block, out + b * bytes);
    }
  });
  return {blocks, {}};
}

/// MXINT8's numbers are k / 64 under a power of two, so that Q8_0, whose scale is a half, holds them with the
/// scale's 64th.
ExactBlocks mxint8_blocks(const QuantizedTensor& tensor) {
  constexpr float kUnit = 64;
  const at::Tensor codes = tensor.codes.contiguous(), scales = tensor.scales.to(at::kFloat).contiguous();
  const auto* code = codes.const_data_ptr<int8_t>();
  const auto* scale = scales.const_data_ptr<float>();
  const GgmlTraits& format = traits(GgmlType::Q8_0);
  at::Tensor blocks = at::empty({tensor.rows(), row_bytes(GgmlType::Q8_0, tensor.cols())}, at::kByte);
  uint8_t* const out = blocks.data_ptr<uint8_t>();
  for (int64_t b = 0; b < scales.numel(); ++b) {
    if (!is_half(scale[b] / kUnit)) {
      return {{},
              fmt::format("row {}, group {}: its scale {:g} / 64 is not a half (F16)", b / scales.size(1),
                          b % scales.size(1), scale[b])};
    }
  }
  at::parallel_for(0, scales.numel(), 1024, [&](int64_t begin, int64_t end) {
    GgmlBlock block;
    for (int64_t b = begin; b < end; ++b) {
      block.d = to_half(scale[b] / kUnit);
      for (int64_t i = 0; i < kBlock; ++i)
        block.codes[static_cast<size_t>(i)] =
            static_cast<uint8_t>(mxint8_of(code[b * kBlock + i]) + format.offset);
      pack(GgmlType::Q8_0, block, out + b * format.bytes);
    }
  });
  return {blocks, {}};
}

/// Of the tensor as a whole.
std::string structural_problem(const QuantizedTensor& tensor, GgmlType type) {
  const int64_t in = tensor.cols(), length = tensor.scheme.axis == 1 ? tensor.scheme.group_length(in) : 0;
  if (std::ranges::find(kBySize, type) == kBySize.end())
    return fmt::format(
        "{}'s scales are codes themselves; Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and MXFP4 take solved "
        "codes",
        traits(type).name);
  if (tensor.scheme.type != "int")
    return fmt::format("{} holds integers, not {}", traits(type).name, tensor.scheme.describe());
  if (tensor.scheme.axis != 1) return "its groups run along the rows of a column";
  if (tensor.second_level) return "its scales are codes on a grid of their own";
  if (tensor.outliers) return "it holds outliers beside its codes";
  if (tensor.group_index.defined()) return "its groups are not neighbours (act-order with g_idx)";
  if (length % kBlock != 0) return fmt::format("its groups of {} are not whole blocks of {}", length, kBlock);
  return {};
}

/// One group's grid in the type's terms: code of the file = code of the tensor + shift.
struct Grid {
  int shift = 0;
  uint16_t d = 0, dmin = 0;
};

struct Converter {
  const QuantizedTensor& tensor;
  const GgmlTraits& format;
  const int8_t* codes;
  const float* scales;
  at::Tensor zeros;  // Float, or undefined

  double zero(int64_t group) const { return zeros.defined() ? zeros.const_data_ptr<float>()[group] : 0.0; }

  /// The grid of a group (counted over the whole tensor), or why there is none.
  std::string grid_of(int64_t group, Grid& grid) const {
    const int64_t per_row = tensor.scales.size(1);
    const auto refuse = [&](const std::string& why) {
      return fmt::format("row {}, group {}: {}", group / per_row, group % per_row, why);
    };
    const double scale = scales[group], zero_point = zero(group);
    if (!is_half(scale)) return refuse(fmt::format("its scale {:g} is not a half (F16)", scale));
    grid.d = to_half(static_cast<float>(scale));
    if (format.has_min) {
      grid.shift = -tensor.scheme.qmin();
      const double minimum = scale * (zero_point + grid.shift);  // exact: 11 bits times 9
      if (!is_half(minimum))
        return refuse(fmt::format("scale {:g} times zero point {:g} is not a half (F16)", scale,
                                  zero_point + grid.shift));
      grid.dmin = to_half(static_cast<float>(minimum));
      return {};
    }
    if (zero_point != std::nearbyint(zero_point))
      return refuse(fmt::format("its zero point {:g} is not a whole number", zero_point));
    grid.shift = format.offset - static_cast<int>(zero_point);
    return {};
  }

  /// One row's blocks; why they can't be, if so.
  std::string convert(int64_t row, uint8_t* out) const {
    const int64_t in = tensor.cols(), length = tensor.scheme.group_length(in), groups = in / length;
    GgmlBlock block;
    Grid grid;
    for (int64_t at = 0; at < in; at += kBlock, out += format.bytes) {
      const int64_t group = row * groups + at / length;
      if (at % length == 0) {
        if (std::string problem = grid_of(group, grid); !problem.empty()) return problem;
        block.d = grid.d;
        block.dmin = grid.dmin;
      }
      for (int64_t i = 0; i < kBlock; ++i) {
        const int code = codes[row * in + at + i] + grid.shift;
        if (code < 0 || code >= format.levels)
          return fmt::format("row {}, column {}: {} steps from zero, where {} has {} to {}", row, at + i,
                             code - format.offset, format.name, -format.offset,
                             format.levels - 1 - format.offset);
        block.codes[static_cast<size_t>(i)] = static_cast<uint8_t>(code);
      }
      pack(format.type, block, out);
    }
    return {};
  }
};

}  // namespace

ExactBlocks exact_ggml_blocks(const QuantizedTensor& tensor, GgmlType type) {
  LATHE_ASSERT(tensor.codes.is_cpu() && tensor.codes.scalar_type() == at::kChar,
               "expected Char codes in host memory");
  if (type == GgmlType::MXFP4) return mxfp4_blocks(tensor);
  if (type == GgmlType::Q8_0 && tensor.scheme.type == kMxInt8.name) return mxint8_blocks(tensor);
  if (std::string reason = structural_problem(tensor, type); !reason.empty()) return {{}, reason};
  const at::Tensor codes = tensor.codes.contiguous(), scales = tensor.scales.to(at::kFloat).contiguous();
  const Converter converter{
      tensor, traits(type), codes.const_data_ptr<int8_t>(), scales.const_data_ptr<float>(),
      tensor.zero_points.defined() ? tensor.zero_points.to(at::kFloat).contiguous() : at::Tensor()};
  at::Tensor blocks = at::empty({tensor.rows(), row_bytes(type, tensor.cols())}, at::kByte);
  uint8_t* const out = blocks.data_ptr<uint8_t>();
  std::vector<std::string> problems(static_cast<size_t>(tensor.rows()));
  at::parallel_for(0, tensor.rows(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      problems[static_cast<size_t>(row)] = converter.convert(row, out + row * blocks.size(1));
  });
  for (const std::string& problem : problems) {
    if (!problem.empty()) return {{}, problem};
  }
  return {blocks, {}};
}

std::optional<GgmlType> exact_ggml_type(const QuantizedTensor& tensor) {
  for (const GgmlType type : kBySize) {
    if (exact_ggml_blocks(tensor, type).exact()) return type;
  }
  return std::nullopt;
}

}  // namespace lathe::kernels
