#include <algorithm>
#include <cctype>
#include <map>

#include "formats/gguf/mix.h"
#include "formats/targets/awq.h"
#include "formats/targets/compressed_tensors.h"
#include "formats/targets/gptq.h"
#include "formats/targets/hqq.h"
#include "formats/targets/modelopt.h"
#include "formats/targets/spqr.h"
#include "formats/targets/target.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

constexpr std::string_view kGguf = "gguf:";

/// What of a type's name people write alike: "Q4KM".
std::string letters_of(std::string type) {
  std::erase(type, '_');
  std::ranges::transform(type, type.begin(), [](unsigned char c) { return std::toupper(c); });
  return type;
}

}  // namespace

const std::vector<Target>& targets() {
  static const std::vector<Target> rows = [] {
    std::vector<Target> all = {
        compressed_tensors_target(), gptq_target(),     gptq_v2_target(), awq_target(),
        awq_gemv_target(),           modelopt_target(), hqq_target(),     spqr_target()};
    for (Target& target : gguf_targets()) all.push_back(std::move(target));
    return all;
  }();
  return rows;
}

std::string canonical_format(const std::string& name) {
  if (!name.starts_with(kGguf)) return name;
  const GgufMix* mix = find_mix(std::string_view(name).substr(kGguf.size()));
  return mix == nullptr ? name : std::string(kGguf) + std::string(mix->name);
}

std::string suggested_format(const std::string& name, const std::vector<std::string>& known) {
  const bool prefixed = name.starts_with(kGguf);
  const std::string near = prefixed ? "" : did_you_mean(name, known);
  if (!near.empty()) return near;
  std::map<std::string, std::string> formats;  // by what is compared
  std::vector<std::string> types;
  for (const GgufMix& mix : gguf_mixes()) {
    const std::string type(mix.name), format = std::string(kGguf) + type;
    if (std::ranges::find(known, format) == known.end()) continue;
    formats[letters_of(type)] = format;
    if (type.ends_with("_M")) formats[letters_of(type.substr(0, type.size() - 2))] = format;  // Q4_K
  }
  for (const auto& [type, format] : formats) types.push_back(type);
  const auto nearest = nearest_name(letters_of(prefixed ? name.substr(kGguf.size()) : name), types);
  return nearest ? "; did you mean '" + formats.at(*nearest) + "'?" : "";
}

const Target& find_target(const std::string& name) {
  std::vector<std::string> known;
  for (const Target& target : targets()) {
    if (target.name == name) return target;
    known.push_back(target.name);
  }
  user_error("unknown output format '{}'; known: {}{}", name, join_words(known),
             suggested_format(name, known));
}

}  // namespace lathe
