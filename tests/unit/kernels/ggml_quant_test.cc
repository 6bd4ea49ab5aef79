// Rounding to ggml's blocks: the weighted error beside that of ggml's own quantisers on the same matrix, and
// the promises of the search.
#include "lib/kernels/ggml_quant.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/numeric/ggml_block.h"

namespace lathe::kernels {
namespace {

/// tests/golden/gguf/quantize.bin: FP32 weights [16, 512], importances [512], then for each type of the
/// table, in its order, ggml's blocks without and with importances.
struct Golden {
  at::Tensor weight, importance;
  std::map<GgmlType, std::array<at::Tensor, 2>> blocks;
};

Golden read_golden() {
  const MappedFile file = MappedFile::open(LATHE_SOURCE_DIR "/tests/golden/gguf/quantize.bin");
  const std::byte* at = file.bytes().data();
  const auto take = [&](std::vector<int64_t> shape, at::ScalarType type) {
    at::Tensor tensor = at::empty(shape, type);
    std::memcpy(tensor.data_ptr(), at, tensor.nbytes());
    at += tensor.nbytes();
    return tensor;
  };
  Golden golden{take({16, 512}, at::kFloat), take({512}, at::kFloat), {}};
  for (const GgmlTraits& format : ggml_types()) {
    if (format.length == 1 || !format.made) continue;
    for (at::Tensor& blocks : golden.blocks[format.type])
      blocks = take({16, row_bytes(format.type, 512)}, at::kByte);
  }
  EXPECT_EQ(at, file.bytes().data() + file.bytes().size());
  return golden;
}

double error(const at::Tensor& weight, const at::Tensor& blocks, GgmlType type,
             const at::Tensor& importance) {
  const at::Tensor difference = weight - dequantize_ggml(blocks, type, weight.size(1));
  at::Tensor squares = difference.to(at::kDouble).square();
  if (importance.defined()) squares = squares * importance;
  return squares.sum().item<double>();
}

TEST(GgmlQuantLibrary, ErrorsAreAtOrBelowGgmlsOfEveryType) {
  const Golden golden = read_golden();
  for (const auto& [type, blocks] : golden.blocks) {
    for (const bool weighted : {false, true}) {
      const at::Tensor importance = weighted ? golden.importance : at::Tensor();
      const double ours =
          error(golden.weight, quantize_ggml("w", golden.weight, type, importance), type, importance);
      const double theirs = error(golden.weight, blocks[weighted], type, importance);
      EXPECT_LE(ours, theirs) << traits(type).name << (weighted ? " weighted" : "");
      EXPECT_GT(ours, 0.2 * theirs) << traits(type).name;
    }
  }
}

TEST(GgmlQuant, SameBytesForAnyThreadCount) {
  const Golden golden = read_golden();
  const at::Tensor weight = golden.weight.repeat({8, 1});
  const int threads = at::get_num_threads();
  for (const auto& [type, blocks] : golden.blocks) {
    at::set_num_threads(1);
    const at::Tensor one = quantize_ggml("w", weight, type, golden.importance);
    at::set_num_threads(4);
    EXPECT_TRUE(one.equal(quantize_ggml("w", weight, type, golden.importance))) << traits(type).name;
    at::set_num_threads(threads);
  }
}

/// FNV-1a of every type's blocks; the number changes with the search, and with nothing else.
TEST(GgmlQuant, SameBytesOnEveryCpu) {
  const Golden golden = read_golden();
  uint64_t hash = 14695981039346656037u;
  for (const auto& [type, blocks] : golden.blocks) {
    const at::Tensor bytes = quantize_ggml("w", golden.weight, type, golden.importance);
    for (int64_t i = 0; i < bytes.numel(); ++i)
      hash = (hash ^ bytes.const_data_ptr<uint8_t>()[i]) * 1099511628211u;
  }
  EXPECT_EQ(hash, 14353887047983076868u);
}

TEST(GgmlQuant, ABlockDoesNotDependOnItsNeighbours) {
  const Golden golden = read_golden();
  for (const auto& [type, blocks] : golden.blocks) {
    const at::Tensor all = quantize_ggml("w", golden.weight, type, golden.importance);
    for (const int64_t row : {0, 7, 15}) {
      const at::Tensor alone =
          quantize_ggml("w", golden.weight.slice(0, row, row + 1).contiguous(), type, golden.importance);
      EXPECT_TRUE(alone.equal(all.slice(0, row, row + 1))) << traits(type).name << " row " << row;
    }
    const at::Tensor half = quantize_ggml("w", golden.weight.slice(1, 256).contiguous(), type,
                                          golden.importance.slice(0, 256).contiguous());
    EXPECT_TRUE(
        half.equal(quantize_ggml("w", golden.weight.slice(1, 256).contiguous(), type,
                                 golden.importance.slice(0, 256) * 2)));  // common factors don't count
  }
}

/// Sum of w (x - value)^2 of one block of 32 with the nearest levels, in FP64.
double cost(const float* x, const float* w, GgmlType type, double scale) {
  const GgmlTraits& format = traits(type);
  double total = 0;
  for (int i = 0; i < 32; ++i) {
    double least = INFINITY;
    for (int code = 0; code < format.levels; ++code) {
      const int level = ggml_levels(type) != nullptr ? ggml_levels(type)[code] : code - format.offset;
      least = std::min(least, std::pow(x[i] - scale * level, 2));
    }
    total += w[i] * least;
  }
  return total;
}

/// The best of all halves d there are, of either sign.
double least_cost(const float* x, const float* w, GgmlType type, double farthest, int top) {
  double least = INFINITY;
  const int from = to_half(static_cast<float>(farthest / top / 2.2));
  const int to = to_half(static_cast<float>(farthest / top * 1.7));
  for (int bits = from; bits <= to; ++bits) {
    for (const int sign : {0, 0x8000})
      least = std::min(least, cost(x, w, type, from_half(static_cast<uint16_t>(bits | sign))));
  }
  return least;
}

TEST(GgmlQuant, OneScaleIsCloseToTheBestOfAllHalves) {
  const Golden golden = read_golden();
  for (const auto& [type, top] :
       {std::pair{GgmlType::Q4_0, 8}, {GgmlType::Q5_0, 16}, {GgmlType::IQ4_NL, 120}}) {
    double ours = 0, best = 0;
    const at::Tensor values =
        dequantize_ggml(quantize_ggml("w", golden.weight, type, golden.importance), type, 512)
            .to(at::kDouble);
    for (int64_t row = 0; row < 1; ++row) {
      for (int64_t at = 0; at < 256; at += 32) {
        const at::Tensor x = golden.weight[row].slice(0, at, at + 32),
                         w = golden.importance.slice(0, at, at + 32);
        ours += (x - values[row].slice(0, at, at + 32)).square().mul(w).sum().item<double>();
        best += least_cost(x.const_data_ptr<float>(), w.const_data_ptr<float>(), type,
                           x.abs().max().item<double>(), top);
      }
    }
    EXPECT_LE(ours, 1.02 * best) << traits(type).name;
    EXPECT_GE(ours, 0.9999 * best) << traits(type).name;
  }
}

TEST(GgmlQuant, WhatIsOnTheGridStaysThere) {
  const Golden golden = read_golden();
  for (const auto& [type, blocks] : golden.blocks) {
    const at::Tensor values = dequantize_ggml(blocks[0], type, 512);
    const double ours = error(values, quantize_ggml("w", values, type, {}), type, {});
    EXPECT_LE(ours, 1e-4 * values.to(at::kDouble).square().sum().item<double>()) << traits(type).name;
  }
}

TEST(GgmlQuant, ExtremesGiveNoNan) {
  const Golden golden = read_golden();
  for (const auto& [type, blocks] : golden.blocks) {
    for (const double factor : {0.0, 1e-38, 1e-9, 4e3}) {
      const at::Tensor weight = golden.weight * factor;
      const at::Tensor values = dequantize_ggml(quantize_ggml("w", weight, type, {}), type, 512);
      EXPECT_TRUE(values.isfinite().all().item<bool>()) << traits(type).name << " times " << factor;
      EXPECT_LE((values - weight).abs().max().item<double>(), weight.abs().max().item<double>() * 1.01)
          << traits(type).name << " times " << factor;
    }
    const at::Tensor unused = at::zeros({512});
    EXPECT_TRUE(
        quantize_ggml("w", golden.weight, type, unused).equal(quantize_ggml("w", golden.weight, type, {})))
        << traits(type).name;
  }
}

std::string refusal(const at::Tensor& weight, GgmlType type, const at::Tensor& importance) {
  try {
    quantize_ggml("blk.0", weight, type, importance);
  } catch (const UserError& error) {
    return error.what();
  }
  return {};
}

TEST(GgmlQuant, RefusesWhatBlocksCantHold) {
  using testing::HasSubstr;
  const at::Tensor weight = at::ones({2, 256});
  EXPECT_THAT(refusal(at::ones({2, 64}), GgmlType::Q4_K, {}),
              HasSubstr("blk.0: rows of 64 values can't be cut"));
  EXPECT_THAT(refusal(weight * NAN, GgmlType::Q4_0, {}),
              HasSubstr("blk.0: holds a weight that is not finite"));
  EXPECT_THAT(refusal(weight * 1e5, GgmlType::Q4_0, {}), HasSubstr("F16 scales, up to 65504"));
  EXPECT_THAT(refusal(weight, GgmlType::Q4_0, at::full({256}, -1.0f)), HasSubstr("negative or not finite"));
}

TEST(GgmlQuant, PlainTypesRoundToNearest) {
  const at::Tensor weight = at::randn({3, 5});
  for (const auto& [type, stored] : {std::pair{GgmlType::F16, at::kHalf}, {GgmlType::BF16, at::kBFloat16}}) {
    const at::Tensor values = dequantize_ggml(quantize_ggml("w", weight, type, {}), type, 5);
    EXPECT_TRUE(values.equal(weight.to(stored).to(at::kFloat)));
  }
}

}  // namespace
}  // namespace lathe::kernels
