#include "lib/model/arch/families.h"

namespace lathe {

std::span<const DecoderFamily* const> families() {
  static constexpr const DecoderFamily* kFamilies[] = {&kLlama,   &kMistral,    &kQwen2,    &kQwen3,
                                                       &kGemma2,  &kGemma3Text, &kGemma3,   &kPhi3,
                                                       &kMixtral, &kQwen2Moe,   &kQwen3Moe, &kOlmoe};
  return kFamilies;
}

const DecoderFamily* find_family(std::string_view model_type) {
  for (const DecoderFamily* family : families()) {
    if (family->model_type == model_type) return family;
  }
  return nullptr;
}

}  // namespace lathe
