// Every field of a BlockOutcome and of what stands in it, for whoever writes, reads or compares them all.
//
// The names are listed once, and bind all members of the type: a member that is added breaks the build here
// until it is listed, and then again where its type is not known.
#pragma once

#include <concepts>
#include <type_traits>

#include "calib/driver/driver.h"

namespace lathe {

template <class Value, class Type>
concept MaybeConst = std::same_as<std::remove_const_t<Value>, Type>;

/// visit_fields(value, visit): calls visit with all members, in order of their declaration.
#define LATHE_FIELDS(Type, ...)                                 \
  template <class Visit, MaybeConst<Type> Value>                \
  void visit_fields(Value& value, Visit&& visit) {              \
    auto& [__VA_ARGS__] = value; /* all of them, or an error */ \
    visit(__VA_ARGS__);                                         \
  }

LATHE_FIELDS(ScaleGrid, bits, rows)
LATHE_FIELDS(Scheme, type, bits, group_size, symmetric, scale_grid, real_zero, axis, rows, zero_above_lowest,
             codebook, hadamard)
LATHE_FIELDS(SecondLevel, scale_codes, zero_codes, scale_scales, scale_zeros, zero_scales, zero_zeros)
LATHE_FIELDS(Outliers, row_offsets, columns, values)
LATHE_FIELDS(ActivationScheme, type, bits, dynamic, per, symmetric, group_size)
LATHE_FIELDS(InputQuantizer, scheme, scale, zero_point, hadamard)
LATHE_FIELDS(QuantizedTensor, scheme, scale_dtype, codes, scales, zero_points, group_index, second_level,
             outliers, global_scale, values, input)
LATHE_FIELDS(Distortion, weight_relative_mse, max_abs_error, output_relative_error)
LATHE_FIELDS(WeightHistogram, limit, before, after)
LATHE_FIELDS(GivenWeight, weight, mean_square, tokens)
LATHE_FIELDS(FormatLoss, format, output_relative_error)
LATHE_FIELDS(LinearOutcome, linear, quantized, distortion, output_tokens, tokens, clipped, seconds, events,
             histogram, given, format_losses)
LATHE_FIELDS(FoldOutcome, edge, transform, applied, ratio, loss_before, loss_after, note)
LATHE_FIELDS(Input, slot, expert)
LATHE_FIELDS(InputDescription, tokens, width, abs_max, abs_max_mean, abs_p9999, mean_abs, kurtosis,
             outlier_channels, outlier_share, channel_kurtosis, channel_spread, token_abs_max, token_spread)
LATHE_FIELDS(InputOutcome, input, seen)
LATHE_FIELDS(InputHistogram, limit, counts)
LATHE_FIELDS(InputSpread, input, histogram)
LATHE_FIELDS(KvCacheScheme, type, bits, value_bits, group_size, window, sink, outliers, q_norm, fp8_scales,
             per_head, weights)
LATHE_FIELDS(KvCacheQuantizer, scheme, k_scales, v_scales, parameters)
LATHE_FIELDS(BlockOutcome, index, linears, folds, expert_tokens, inputs, spreads, changed, kv_cache)
#undef LATHE_FIELDS

}  // namespace lathe
