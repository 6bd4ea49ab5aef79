#include "lib/numeric/scale_counts.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"
#include "lib/numeric/ggml_block.h"
#include "lib/numeric/sampled_rows.h"

namespace lathe {
namespace {

/// Bins from `begin` to `end`, what was counted in its place.
void widen(ScaleCounts& counts, int64_t begin, int64_t end) {
  std::vector<int64_t> wider(static_cast<size_t>(end - begin), 0);
  std::ranges::copy(counts.counts, wider.begin() + (counts.first - begin));
  counts.first = begin;
  counts.counts = std::move(wider);
}

at::Tensor sampled(const at::Tensor& matrix, int64_t values) {
  std::vector<at::Tensor> parts;
  for (const auto& [begin, end] : sampled_rows(matrix.size(0), values, ScaleCounts::kSampled))
    parts.push_back(matrix.slice(0, begin, end));
  return at::cat(parts);
}

}  // namespace

void ScaleCounts::add(const ScaleCounts& other) {
  zeros += other.zeros;
  if (other.counts.empty()) return;
  least = std::min(least, other.least);
  largest = std::max(largest, other.largest);
  const auto end_of = [](const ScaleCounts& each) { return each.first + std::ssize(each.counts); };
  if (counts.empty()) first = other.first;
  const int64_t begin = std::min(first, other.first), end = std::max(end_of(*this), end_of(other));
  widen(*this, begin, end);
  for (size_t i = 0; i < other.counts.size(); ++i)
    counts[static_cast<size_t>(other.first - first) + i] += other.counts[i];
}

int64_t ScaleCounts::total() const {
  int64_t sum = 0;
  for (const int64_t count : counts) sum += count;
  return sum;
}

double ScaleCounts::median() const {
  int64_t left = (total() + 1) / 2;
  for (size_t i = 0; i < counts.size(); ++i) {
    left -= counts[i];
    if (left > 0) continue;
    return std::exp2((static_cast<double>(first) + static_cast<double>(i) + 0.5) / kBinsAnOctave);
  }
  return 0;
}

ScaleCounts count_scales(const at::Tensor& scales) {
  const at::Tensor sizes = scales.flatten().to(at::kDouble).abs().cpu();
  const at::Tensor usable = sizes.gt(0).logical_and(sizes.isfinite());
  const at::Tensor kept = sizes.masked_select(usable);
  ScaleCounts result;
  result.zeros = sizes.numel() - kept.numel();
  if (kept.numel() == 0) return result;
  const at::Tensor bins = kept.log2().mul_(ScaleCounts::kBinsAnOctave).floor_().to(at::kLong);
  result.first = bins.min().item<int64_t>();
  const at::Tensor counted = bins.sub(result.first).bincount();
  const auto* const counts = counted.const_data_ptr<int64_t>();
  result.counts.assign(counts, counts + counted.numel());
  result.least = kept.min().item<double>();
  result.largest = kept.max().item<double>();
  return result;
}

std::optional<ScaleCounts> count_scales(const QuantizedTensor& tensor) {
  if (!tensor.scales.defined() || tensor.scales.numel() == 0) return std::nullopt;
  const at::Tensor rows = tensor.scales.dim() == 2 ? tensor.scales : tensor.scales.reshape({1, -1});
  at::Tensor scales = sampled(rows, rows.size(1)).to(at::kDouble);
  if (tensor.global_scale.defined()) scales = scales * tensor.global_scale.to(at::kDouble);
  return count_scales(scales);
}

at::Tensor ggml_scales(const at::Tensor& blocks, GgmlType type, int64_t columns) {
  const GgmlTraits& format = traits(type);
  LATHE_ASSERT(format.made && format.length > 1 && blocks.scalar_type() == at::kByte &&
                   blocks.is_contiguous() && blocks.size(1) == row_bytes(type, columns),
               "scales of {}: expected Byte [out, {}], contiguous", format.name, row_bytes(type, columns));
  const int64_t groups = columns / format.group, together = format.length / format.group;
  at::Tensor scales = at::empty({blocks.size(0), groups}, at::kFloat);
  const uint8_t* const bytes = blocks.const_data_ptr<uint8_t>();
  float* const out = scales.data_ptr<float>();
  at::parallel_for(0, blocks.size(0), 1, [&](int64_t begin, int64_t end) {
    GgmlBlock block;
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t g = 0; g < groups; ++g) {
        if (g % together == 0)
          unpack(type, bytes + row * blocks.size(1) + g / together * format.bytes, block);
        const float d = type == GgmlType::MXFP4 ? std::ldexp(1.0f, block.d - 127) : from_half(block.d);
        const int code = block.scales[static_cast<size_t>(g % together)] - format.scale_offset;
        out[row * groups + g] = format.scale_levels > 0 ? d * static_cast<float>(code) : d;
      }
    }
  });
  return scales;
}

ScaleCounts count_ggml_scales(const at::Tensor& blocks, GgmlType type, int64_t columns) {
  const at::Tensor rows = sampled(blocks, columns / traits(type).group);
  return count_scales(ggml_scales(rows, type, columns));
}

}  // namespace lathe
