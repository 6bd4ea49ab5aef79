#include "formats/targets/spqr_tiles.h"

#include <ATen/ATen.h>

#include "formats/targets/spqr.h"

namespace lathe {
namespace {

constexpr int64_t kTile = kSpqrTile;
constexpr int64_t kFieldMask = (1 << kSpqrBits) - 1;
constexpr int64_t kZeroShift = kSpqrBits, kCodeShift = 2 * kSpqrBits;
constexpr int64_t kByteShift = (2 + kTile) * kSpqrBits, kSpareShift = kByteShift + 8;

/// [out, in] -> [out/16, in/16, 16, 16]: tiles, their rows, their columns.
at::Tensor tiled(const at::Tensor& codes) {
  return codes.view({codes.size(0) / kTile, kTile, codes.size(1) / kTile, kTile}).permute({0, 2, 1, 3});
}

/// [out, groups] -> [out/16, groups, 16].
at::Tensor tiled_rows(const at::Tensor& codes) {
  return codes.view({codes.size(0) / kTile, kTile, codes.size(1)}).permute({0, 2, 1});
}
at::Tensor from_tiled_rows(const at::Tensor& tiles) {
  return tiles.permute({0, 2, 1}).reshape({tiles.size(0) * kTile, tiles.size(1)}).to(at::kByte);
}

/// Bits of FP16 numbers, Long.
at::Tensor half_bits(const at::Tensor& values) {
  return values.to(at::kHalf).contiguous().view(at::kShort).to(at::kLong).bitwise_and_(0xffff);
}
at::Tensor half_values(const at::Tensor& bits) { return bits.to(at::kShort).view(at::kHalf).to(at::kFloat); }

at::Tensor shifts(int64_t count, int64_t step) { return at::arange(count, at::kLong).mul_(step); }

/// The byte of the second level that each of 16 rows carries, as a shift: 0, 0, 8, 8, ..., 56, 56.
at::Tensor byte_shifts() { return at::arange(kTile, at::kLong).div_(2, "floor").mul_(8); }

}  // namespace

at::Tensor pack_spqr_tiles(const at::Tensor& codes, const SecondLevel& level) {
  const at::Tensor fields = tiled(codes).to(at::kLong);
  at::Tensor words = fields.bitwise_left_shift(shifts(kTile, kSpqrBits).add_(kCodeShift)).sum(-1);
  words.bitwise_or_(tiled_rows(level.scale_codes).to(at::kLong));
  words.bitwise_or_(tiled_rows(level.zero_codes).to(at::kLong).bitwise_left_shift(kZeroShift));
  const at::Tensor second = half_bits(level.scale_scales)
                                .bitwise_or_(half_bits(level.zero_scales).bitwise_left_shift(16))
                                .bitwise_or_(half_bits(level.scale_zeros).bitwise_left_shift(32))
                                .bitwise_or_(half_bits(level.zero_zeros).bitwise_left_shift(48));
  const at::Tensor bytes = second.unsqueeze(-1).bitwise_right_shift(byte_shifts()).bitwise_and_(0xff);
  return words.bitwise_or_(bytes.bitwise_left_shift(kByteShift)).reshape({-1}).contiguous();
}

SpqrTiles unpack_spqr_tiles(const at::Tensor& all, int64_t out, int64_t in) {
  const at::Tensor words = all.view({out / kTile, in / kTile, kTile});
  const at::Tensor fields = words.unsqueeze(-1)
                                .bitwise_right_shift(shifts(kTile, kSpqrBits).add_(kCodeShift))
                                .bitwise_and_(kFieldMask);
  SpqrTiles tiles{fields.permute({0, 2, 1, 3}).reshape({out, in}).to(at::kByte), {}, {}};
  const at::Tensor bytes = words.bitwise_right_shift(kByteShift).bitwise_and_(0xff);
  const at::Tensor pairs = bytes.view({out / kTile, in / kTile, kTile / 2, 2});
  const at::Tensor spare = words.bitwise_right_shift(kSpareShift).bitwise_and_(3);
  tiles.consistent = pairs.select(3, 0).eq(pairs.select(3, 1)).all().logical_and(spare.eq(0).all());
  const at::Tensor second = pairs.select(3, 0).bitwise_left_shift(shifts(kTile / 2, 8)).sum(-1);
  const auto number = [&](int64_t shift) {
    return half_values(second.bitwise_right_shift(shift).bitwise_and_(0xffff));
  };
  tiles.level = {
      .scale_codes = from_tiled_rows(words.bitwise_and(kFieldMask)),
      .zero_codes = from_tiled_rows(words.bitwise_right_shift(kZeroShift).bitwise_and_(kFieldMask)),
      .scale_scales = number(0),
      .scale_zeros = number(32),
      .zero_scales = number(16),
      .zero_zeros = number(48)};
  return tiles;
}

at::Tensor decode_second_level(const at::Tensor& codes, const at::Tensor& scales, const at::Tensor& zeros) {
  const int64_t rows = codes.size(0) / scales.size(0);
  const auto of_rows = [&](const at::Tensor& blocks) { return blocks.repeat_interleave(rows, 0); };
  const auto half = [](const at::Tensor& values) { return values.to(at::kHalf).to(at::kFloat); };
  return half(half(codes.to(at::kFloat) - of_rows(zeros)) * of_rows(scales));
}

}  // namespace lathe
