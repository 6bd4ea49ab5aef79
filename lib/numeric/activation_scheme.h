// How a linear's input is quantised before the product: a value type beside Scheme, which is the weights'.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "lib/numeric/scheme.h"

namespace lathe {

/// Uniform integer grid x ~ scale * (q - zero), q in [qmin, qmax], or a floating-point grid of
/// float_grid_types() (scheme.h), x ~ scale * number(code). Dynamic: scale and zero point are those of each
/// token's own values, or of each group of its channels, found when the model runs. Static: one scale for all
/// tokens, found in calibration and stored beside the weight. NVFP4's groups are dynamic ("local"), and their
/// scales E4M3 codes under one scale that is found in calibration.
struct ActivationScheme {
  enum class Per { token, tensor, group };

  std::string type = "int";
  int bits = 8;
  bool dynamic = true;
  Per per = Per::token;
  bool symmetric = true;   // zero point fixed at 0
  int64_t group_size = 0;  // channels that share a scale, per group; else 0

  /// Its row of float_grid_types(); null for integers.
  const FloatGridType* float_grid() const { return grid_of_floats().float_grid(); }
  /// Is a scale found in calibration and stored?
  bool calibrated() const { return !dynamic || grid_of_floats().has_global_scale(); }
  /// The grid of one row of inputs (of one group of it, per group), as a weight's would be.
  Scheme as_rows() const;
  /// "fp8_e4m3" per token; per group with the groups that the type prescribes (nvfp4). InternalError for an
  /// unknown name.
  static ActivationScheme of_floats(std::string_view type);

  int qmin() const { return -(1 << (bits - 1)); }
  int qmax() const { return (1 << (bits - 1)) - 1; }

  /// "int8 sym dynamic per token", "fp8_e4m3 static per tensor", "nvfp4 dynamic per group of 16"
  std::string describe() const;
  /// Why there is no such scheme; nothing if there is. Only dynamic per token and static per tensor exist: a
  /// token's scale can't be known before the token, and a dynamic scale of all tokens at hand would make a
  /// token's result depend on what else is in the batch (no inference engine reads it).
  std::optional<std::string> problem() const;
  bool operator==(const ActivationScheme&) const = default;

 private:
  Scheme grid_of_floats() const { return {.type = type}; }
};

const char* name_of(ActivationScheme::Per per);

/// The quantiser of one linear's input.
struct InputQuantizer {
  ActivationScheme scheme;
  float scale = 0;     // where calibrated: finite, > 0; NVFP4: what a group's E4M3 scale is multiplied by
  int zero_point = 0;  // where static and asymmetric: in [qmin, qmax]
  /// Values are rotated in blocks of this order before they are rounded (Scheme::hadamard); 0: not at all.
  int64_t hadamard = 0;
};

/// What a linear is: "int8 sym channel" or "int8 sym channel, input int8 sym dynamic per token".
std::string with_input(std::string weights, const std::optional<ActivationScheme>& activations);

}  // namespace lathe
