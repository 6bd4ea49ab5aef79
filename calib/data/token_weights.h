// How often tokens count in Hessians and mean squares.
#pragma once

#include <span>
#include <string>

namespace lathe {

/// The field, column or tensor beside token ids that holds a number for each of them.
inline constexpr const char* kTokenWeights = "token_weights";

/// A token that counts in statistics does so in Hessians at least so often, and at most the inverse.
inline constexpr float kLeastTokenWeight = 1e-6F;
/// 0 (the token is context alone), or 1e-6 to 1e6.
inline bool is_token_weight(float weight) {
  return weight == 0 || (weight >= kLeastTokenWeight && weight <= 1 / kLeastTokenWeight);
}

/// UserError, `where` first, naming the first element that is no token weight.
void check_token_weights(std::span<const float> weights, const std::string& where);

}  // namespace lathe
