// What `compare` reads beside two artefacts' weights: report.json and manifest.json of the one, a NUL, and
// those of the other; a NUL between report and manifest, too.
#include "apps/quantize/compare.h"
#include "tests/fuzz/fuzz.h"

namespace {

/// The input up to a NUL, which is taken off it.
std::string_view next_part(std::string_view& input) {
  const size_t end = std::min(input.find('\0'), input.size());
  const std::string_view part = input.substr(0, end);
  input.remove_prefix(std::min(end + 1, input.size()));
  return part;
}

}  // namespace

void lathe::fuzz::read(std::string_view input) {
  static const Folder folder;
  Comparison comparison{.text = "text"};
  std::vector<nlohmann::json> contents;
  for (const char* name : {"one", "other"}) {
    ComparedArtefact artefact{.name = name, .bytes = 1, .result = std::nullopt};
    artefact.report = read_report(folder.put("report.json", next_part(input)));
    contents.push_back(read_contents(folder.put("manifest.json", next_part(input))));
    comparison.artefacts.push_back(std::move(artefact));
  }
  if (!contents[0].is_null() && contents[0] == contents[1]) comparison.artefacts[1].same_as = 0;
  comparison.checks = check_artefacts(comparison.artefacts, {});
  comparison_json(comparison).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  comparison_text(comparison);
}
