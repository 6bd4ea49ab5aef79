// Reading config.json's "quantization_config" of a compressed-tensors artefact, strictly: what we don't
// understand we don't guess. Which linear is stored in which scheme.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <optional>
#include <string>
#include <vector>

#include "formats/targets/name_match.h"
#include "lib/numeric/activation_scheme.h"
#include "lib/numeric/kv_cache.h"
#include "lib/numeric/scheme.h"

namespace lathe {

struct CompressedTensorsConfig {
  struct Group {
    std::string name;  // "group_0"
    NamePatterns targets;
    Scheme scheme;
    std::optional<ActivationScheme> activations;  // none: of the weights alone
    bool packed = false;  // integers: in words (pack-quantized), not a code a byte (int-quantized)
  };
  std::vector<Group> groups;
  NamePatterns ignore;
  /// A transform_config of one Hadamard scheme: whose inputs are rotated, and in blocks of which order.
  struct Rotation {
    std::string name;  // "hadamard"
    NamePatterns targets, ignore;
    int64_t block = 0;
  };
  std::optional<Rotation> rotation = std::nullopt;
  std::optional<KvCacheScheme> kv_cache = std::nullopt;

  /// Order of the blocks that the linear's input is rotated in; 0: it is not.
  int64_t rotation_of(const std::string& linear) const;
  /// The group of a linear; null where it is ignored or no group names it. Where several groups do, an
  /// exact name beats a regular expression beats the class name, and the first group wins among equals.
  const Group* group_of(const std::string& linear) const;
  std::optional<Scheme> scheme_of(const std::string& linear) const {
    const Group* group = group_of(linear);
    return group == nullptr ? std::nullopt : std::optional(group->scheme);
  }
};

/// `where` begins every error ("<folder>/config.json: quantization_config"). UserError naming key and value
/// for anything but integer weights, packed or (symmetric, a byte each, of any width: more than
/// int_quantized.h writes) beside INT8 or FP8 activations, and what float_quantized.h holds.
CompressedTensorsConfig parse_compressed_tensors_config(const nlohmann::json& config,
                                                        const std::string& where);

}  // namespace lathe
