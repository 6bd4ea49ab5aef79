// README.md of an artefact: the model card that a hub shows.
#pragma once

#include <string>
#include <vector>

#include "lib/report/report.h"

namespace lathe {

/// Front matter for the hub (with the base card's licence, language, tags and base_model), what was done
/// (recipe, schemes, sizes), what it cost (perplexity, KL), how to load the folder, and what consumers make
/// of it, a line each. `base_card`: the README.md of the model that was quantised, which is kept word for
/// word at the end (its licence may stand there); empty where there is none. Nothing of the machine and no
/// times: equal runs make equal cards.
std::string model_card(const Report& report, const std::string& format, const std::string& how_to_load,
                       const std::vector<std::string>& consumers, const std::string& base_card);

/// What became of an artefact that was made from another one without quantising again.
struct Conversion {
  std::string format, how_to_load;
  std::vector<std::string> consumers;      // what they make of it, a line each
  std::vector<std::string> known_formats;  // tags that name one don't hold any more
};

/// Its card: the other's, word for word, after what changed and how the new format is loaded. The other's
/// front matter stays in front, but that its tags name the new format.
std::string converted_card(const Conversion& conversion, const std::string& card);

}  // namespace lathe
