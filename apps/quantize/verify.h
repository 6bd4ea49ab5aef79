// `quantize verify DIR [--reference DIR]`: what the end of a run checks, later, of what stands there.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "apps/quantize/requests.h"
#include "formats/targets/model_folder.h"
#include "formats/verify/artefact.h"

namespace lathe {

/// One folder's verdict.
struct Verdict {
  std::string folder;
  Verified verified;
  std::set<std::string> checks;    // that were made
  std::vector<std::string> notes;  // why others were not
};
/// `folder`: an artefact, or a GGUF file. `reference`: the floating-point model; null: not given. What is
/// wrong with the folder is a finding, whatever it is.
Verdict verify_folder(const std::filesystem::path& folder, const ModelFolder* reference);

/// Prints what was looked at and every finding. CheckFailed where there is one; UserError where DIR is no
/// artefact, or the reference no floating-point model.
void run_verify(const VerifyRequest& request);

}  // namespace lathe
