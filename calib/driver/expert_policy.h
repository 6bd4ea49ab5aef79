// What a calibrated run does about experts that the router sends few tokens.
#pragma once

#include <cstdint>
#include <string_view>

namespace lathe {

enum class ExpertFallback {
  all_tokens,   // statistics of all tokens passed through the expert, whatever the router says
  weight_only,  // no activations: every input channel counts alike
};

/// "all_tokens", "weight_only".
constexpr std::string_view name_of(ExpertFallback fallback) {
  return fallback == ExpertFallback::all_tokens ? "all_tokens" : "weight_only";
}

struct ExpertPolicy {
  int64_t min_tokens = 256;  // an expert with fewer takes the fall-back; one without any always does
  ExpertFallback fallback = ExpertFallback::all_tokens;
};

}  // namespace lathe
