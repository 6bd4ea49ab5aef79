#include "formats/targets/float_codes.h"

#include <ATen/ATen.h>

#include <cmath>

#include "formats/targets/float_reader.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr int kNanMagnitude = 0x7f;  // of E4M3
constexpr uint8_t kNanE8M0 = 255;

/// 2^(code - 127), Float.
at::Tensor powers_of_two(const at::Tensor& codes) {
  // The field of an FP32 exponent is biased by 127, too; 0 would be zero, where E8M0 has 2^-127.
  const at::Tensor bits = codes.to(at::kInt).mul_(1 << 23).clamp_min_(1 << 22);
  return bits.view(at::kFloat);
}

}  // namespace

ActivationScheme fp8_inputs(bool dynamic, ActivationScheme::Per per, int64_t group_size) {
  ActivationScheme scheme = ActivationScheme::of_floats("fp8_e4m3");
  scheme.dynamic = dynamic;
  scheme.per = per;
  scheme.group_size = group_size;
  return scheme;
}

at::Tensor fp8_of_codes(const at::Tensor& codes) { return codes.cpu().contiguous().view(at::kFloat8_e4m3fn); }

at::Tensor codes_of_fp8(const at::Tensor& stored, const std::string& where) {
  const at::Tensor codes = stored.view(at::kByte).clone().view(at::kChar);
  const at::Tensor bad = codes.bitwise_and(kNanMagnitude).eq(kNanMagnitude);
  if (bad.any().item<bool>()) user_error("{}: the value at {} is NaN", where, first_index(bad));
  return codes;
}

at::Tensor pack_fp4(const at::Tensor& codes) {
  LATHE_ASSERT(codes.dim() == 2 && codes.size(1) % 2 == 0, "FP4 codes of {} columns", codes.size(1));
  const at::Tensor bytes = codes.cpu().contiguous().view(at::kByte).view({codes.size(0), -1, 2});
  LATHE_ASSERT(bytes.lt(16).all().item<bool>(), "FP4 codes beyond 15");
  return bytes.select(2, 0).bitwise_or(bytes.select(2, 1).bitwise_left_shift(4)).contiguous();
}

at::Tensor unpack_fp4(const at::Tensor& bytes) {
  const at::Tensor halves = at::stack({bytes.bitwise_and(15), bytes.bitwise_right_shift(4)}, 2);
  return halves.view({bytes.size(0), -1}).view(at::kChar);
}

at::Tensor pack_fp6(const at::Tensor& codes) {
  LATHE_ASSERT(codes.dim() == 2 && codes.size(1) % 4 == 0, "FP6 codes of {} columns", codes.size(1));
  const at::Tensor fields = codes.cpu().contiguous().view(at::kByte).view({codes.size(0), -1, 4});
  LATHE_ASSERT(fields.lt(64).all().item<bool>(), "FP6 codes beyond 63");
  const auto byte = [&](int64_t i) {  // the rest of a code, and the beginning of the next
    const at::Tensor next = fields.select(2, i + 1).bitwise_left_shift(6 - 2 * i);
    return fields.select(2, i).bitwise_right_shift(2 * i).bitwise_or(next);
  };
  return at::stack({byte(0), byte(1), byte(2)}, 2).view({codes.size(0), -1});
}

at::Tensor unpack_fp6(const at::Tensor& bytes) {
  const at::Tensor three = bytes.view({bytes.size(0), -1, 3}).to(at::kInt);
  const at::Tensor bits = three.select(2, 0)
                              .bitwise_or(three.select(2, 1).bitwise_left_shift(8))
                              .bitwise_or(three.select(2, 2).bitwise_left_shift(16));
  const auto code = [&](int64_t i) { return bits.bitwise_right_shift(6 * i).bitwise_and(63); };
  return at::stack({code(0), code(1), code(2), code(3)}, 2).view({bytes.size(0), -1}).to(at::kChar);
}

at::Tensor block_scale_codes(const std::string& linear, const QuantizedTensor& tensor) {
  const at::Tensor scales = tensor.scales.cpu().contiguous();
  if (tensor.scale_dtype == DType::F8_E4M3) {
    const at::Tensor codes = scales.to(at::kFloat8_e4m3fn);
    LATHE_ASSERT(codes.to(at::kFloat).equal(scales), "{}: scales that E4M3 can't hold", linear);
    return codes;
  }
  LATHE_ASSERT(tensor.scale_dtype == DType::F8_E8M0, "{}: scales of type {}", linear,
               name_of(tensor.scale_dtype));
  at::Tensor codes = scales.view(at::kInt).bitwise_right_shift(23).to(at::kByte);
  LATHE_ASSERT(powers_of_two(codes).equal(scales), "{}: scales that E8M0 can't hold", linear);
  return codes;
}

at::Tensor positive(at::Tensor scales, const std::string& where) {
  const at::Tensor bad = at::isfinite(scales).logical_and_(scales > 0).logical_not_();
  if (!bad.any().item<bool>()) return scales;
  user_error("{}: the scale at {} is {:g}: expected a positive number", where, first_index(bad),
             scales.masked_select(bad)[0].item<float>());
}

at::Tensor block_scales_of(const at::Tensor& stored, const std::string& where) {
  if (stored.scalar_type() == at::kFloat8_e4m3fn) return positive(stored.to(at::kFloat), where);
  const at::Tensor bad = stored.eq(kNanE8M0);
  if (bad.any().item<bool>())
    user_error("{}: the scale at {} is NaN: expected a power of two", where, first_index(bad));
  return powers_of_two(stored);
}

}  // namespace lathe
