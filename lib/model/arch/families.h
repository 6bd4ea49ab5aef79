// The table of families: one declaration here and one entry in families.cc for each file beside it.
#pragma once

#include <span>
#include <string_view>

#include "lib/model/arch/decoder.h"

namespace lathe {

extern const DecoderFamily kLlama, kMistral, kQwen2, kQwen3, kGemma2, kGemma3Text, kGemma3, kPhi3, kMixtral,
    kQwen2Moe, kQwen3Moe, kOlmoe;

/// All families, in the order in which they are listed to people.
std::span<const DecoderFamily* const> families();

/// nullptr for an unknown model_type.
const DecoderFamily* find_family(std::string_view model_type);

}  // namespace lathe
