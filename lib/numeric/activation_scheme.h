// How a linear's input is quantised before the product: a value type beside Scheme, which is the weights'.
#pragma once

#include <optional>
#include <string>

namespace lathe {

/// Uniform integer grid x ~ scale * (q - zero), q in [qmin, qmax]. Dynamic: scale and zero point are those of
/// each token's own values, found when the model runs. Static: one scale for all tokens, found in
/// calibration and stored beside the weight.
struct ActivationScheme {
  enum class Per { token, tensor };

  std::string type = "int";
  int bits = 8;
  bool dynamic = true;
  Per per = Per::token;
  bool symmetric = true;  // zero point fixed at 0

  int qmin() const { return -(1 << (bits - 1)); }
  int qmax() const { return (1 << (bits - 1)) - 1; }

  /// "int8 sym dynamic per token"
  std::string describe() const;
  /// Why there is no such scheme; nothing if there is. Only dynamic per token and static per tensor exist: a
  /// token's scale can't be known before the token, and a dynamic scale of all tokens at hand would make a
  /// token's result depend on what else is in the batch (no inference engine reads it).
  std::optional<std::string> problem() const;
  bool operator==(const ActivationScheme&) const = default;
};

const char* name_of(ActivationScheme::Per per);

/// The quantiser of one linear's input.
struct InputQuantizer {
  ActivationScheme scheme;
  float scale = 0;     // where static: finite, > 0
  int zero_point = 0;  // where static and asymmetric: in [qmin, qmax]
};

/// What a linear is: "int8 sym channel" or "int8 sym channel, input int8 sym dynamic per token".
std::string with_input(std::string weights, const std::optional<ActivationScheme>& activations);

}  // namespace lathe
