#include "formats/targets/rotation_format.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "formats/targets/strict_object.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "lib/numeric/hadamard.h"

namespace lathe {
namespace {

using nlohmann::json;

/// One entry of a scheme's `apply`.
struct Applied {
  std::string location;
  bool inverse = false;
  std::vector<std::string> targets, ignore;
};

Applied parse_applied(const json& value, const std::string& where) {
  StrictObject object(value, where);
  Applied applied{object.word("location", {"input", "weight_input"}),
                  object.find("inverse") != nullptr && object.truth("inverse"), object.words("targets", true),
                  object.words("ignore", false)};
  object.no_other_keys();
  return applied;
}

/// Inputs and columns of the same linears; the matrix is its own inverse, so `inverse` says nothing.
Applied parse_apply(StrictObject& scheme, const std::string& where) {
  const char* const both = "one entry of location input and one of weight_input, on the same targets";
  const json& apply = scheme.need("apply", both);
  if (!apply.is_array() || apply.size() != 2) scheme.refuse("apply", both);
  const Applied first = parse_applied(apply[0], where + ".apply[0]"),
                second = parse_applied(apply[1], where + ".apply[1]");
  if (first.location == second.location || first.targets != second.targets || first.ignore != second.ignore)
    scheme.refuse("apply", both);
  return first;
}

CompressedTensorsConfig::Rotation parse_scheme(const std::string& name, const json& value,
                                               const std::string& where) {
  StrictObject scheme(value, where);
  scheme.word("type", {"hadamard"});
  if (scheme.find("randomize") != nullptr && scheme.truth("randomize"))
    scheme.refuse("randomize", "false (a deterministic matrix)");
  scheme.informational({"requires_grad", "precision"});
  const int64_t block = scheme.integer("head_dim", 1, 1 << 20);
  if (std::ranges::find(kHadamardBlocks, block) == kHadamardBlocks.end())
    scheme.refuse("head_dim", "16, 32, 64 or 128");
  Applied applied = parse_apply(scheme, where);
  scheme.no_other_keys();
  return {name, NamePatterns(std::move(applied.targets), where + ".apply[0].targets"),
          NamePatterns(std::move(applied.ignore), where + ".apply[0].ignore"), block};
}

}  // namespace

std::string rotation_suffix(const std::string& scheme) { return "." + scheme + "_input.weight"; }

at::Tensor rotation_signs(int64_t block) { return hadamard_blocks(at::eye(block), block).sign(); }

std::optional<CompressedTensorsConfig::Rotation> parse_rotation(const json& config,
                                                                const std::string& where) {
  if (config.is_null() || (config.is_object() && config.empty())) return std::nullopt;
  StrictObject top(config, where);
  const json& groups = top.need("config_groups", "an object with one scheme");
  if (!groups.is_object() || groups.size() != 1) top.refuse("config_groups", "an object with one scheme");
  top.no_other_keys();
  const auto group = groups.begin();
  return parse_scheme(group.key(), group.value(), fmt::format("{}.config_groups.{}", where, group.key()));
}

}  // namespace lathe
