// Reading config.json's "quantization_config" of a compressed-tensors artefact, strictly: what we don't
// understand we don't guess. Which linear is stored in which scheme.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <optional>
#include <string>
#include <vector>

#include "formats/targets/name_match.h"
#include "lib/numeric/scheme.h"

namespace lathe {

struct CompressedTensorsConfig {
  struct Group {
    std::string name;  // "group_0"
    NamePatterns targets;
    Scheme scheme;
  };
  std::vector<Group> groups;
  NamePatterns ignore;

  /// The scheme of a linear; nothing where it is ignored or no group names it. Where several groups do, an
  /// exact name beats a regular expression beats the class name, and the first group wins among equals.
  std::optional<Scheme> scheme_of(const std::string& linear) const;
};

/// `where` begins every error ("<folder>/config.json: quantization_config"). UserError naming key and value
/// for anything but weight-only, statically quantised integers in the format pack-quantized.
CompressedTensorsConfig parse_compressed_tensors_config(const nlohmann::json& config,
                                                        const std::string& where);

}  // namespace lathe
