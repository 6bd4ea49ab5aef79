// The rules, by role. "Early" layers are the first eighth; `more` is llama.cpp's choice of half the layers
// that get more bits: the first and the last eighth, and every third between.
#include "formats/gguf/mix.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <vector>

#include "lib/base/error.h"

namespace lathe {
namespace {

using enum GgmlType;

constexpr std::array<GgufMix, 24> kMixes = {
    {{"F32", 0, F32},      {"F16", 1, F16},        {"Q4_0", 2, Q4_0},       {"Q4_1", 3, Q4_1},
     {"Q8_0", 7, Q8_0},    {"Q5_0", 8, Q5_0},      {"Q5_1", 9, Q5_1},       {"Q2_K", 10, Q2_K},
     {"Q3_K_S", 11, Q3_K}, {"Q3_K_M", 12, Q3_K},   {"Q3_K_L", 13, Q3_K},    {"Q4_K_S", 14, Q4_K},
     {"Q4_K_M", 15, Q4_K}, {"Q5_K_S", 16, Q5_K},   {"Q5_K_M", 17, Q5_K},    {"Q6_K", 18, Q6_K},
     {"Q2_K_S", 21, Q2_K}, {"IQ4_NL", 25, IQ4_NL}, {"IQ4_XS", 30, IQ4_XS},  {"BF16", 32, BF16},
     {"TQ1_0", 36, TQ1_0}, {"TQ2_0", 37, TQ2_0},   {"MXFP4_MOE", 38, Q8_0}, {"MXFP4", 38, MXFP4}}};

constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kAliases = {
    {{"Q3_K", "Q3_K_M"}, {"Q4_K", "Q4_K_M"}, {"Q5_K", "Q5_K_M"}}};

enum class Role { output, embedding, value, key, attention_output, down, other, unquantised };

bool has(const std::string& name, std::string_view part) { return name.find(part) != std::string::npos; }

Role role_of(const MixModel& model, const MixTensor& tensor) {
  const std::string& name = tensor.name;
  if (tensor.rows == 0 || !name.ends_with(".weight") || name.ends_with("_norm.weight"))
    return Role::unquantised;
  for (const auto part :
       {"ffn_gate_inp.weight", "ssm_conv1d", "shortconv.conv", "position_embd", "token_types"}) {
    if (has(name, part)) return Role::unquantised;
  }
  if (name == "output.weight") return Role::output;
  if (name == "token_embd.weight") return model.tied_output ? Role::output : Role::embedding;
  for (const auto part : {"attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight"}) {
    if (has(name, part)) return Role::value;
  }
  if (has(name, "attn_k.weight")) return Role::key;
  if (has(name, "attn_output.weight")) return Role::attention_output;
  return has(name, "ffn_down") ? Role::down : Role::other;
}

/// One mix, one model, one layer: a rule for each role; nothing: the mix's base.
struct Rules {
  std::string_view mix;
  GgmlType base;
  const MixModel& model;
  int64_t layer;

  bool is(std::initializer_list<std::string_view> names) const {
    return std::ranges::find(names, mix) != names.end();
  }
  bool within_first(int64_t share) const { return layer < model.layers / share; }
  bool more() const {
    const int64_t eighth = model.layers / 8;
    return layer < eighth || layer >= 7 * model.layers / 8 || (layer - eighth) % 3 == 2;
  }
  bool grouped_by_four() const { return model.kv_heads > 0 && model.heads / model.kv_heads >= 4; }
  /// llama.cpp's "70B": attn_v is an eighth of attn_q there.
  bool seventy_billion() const { return model.layers == 80 && model.kv_heads < model.heads; }

  std::optional<GgmlType> output() const { return is({"MXFP4", "MXFP4_MOE"}) || base == Q8_0 ? Q8_0 : Q6_K; }

  std::optional<GgmlType> embedding() const {
    if (is({"TQ1_0", "TQ2_0"})) return Q4_K;
    if (is({"MXFP4"})) return Q8_0;
    return {};
  }

  std::optional<GgmlType> value() const {
    if (model.experts == 8) return Q8_0;
    const std::optional<GgmlType> type = value_by_mix();
    const GgmlType chosen = type.value_or(base);
    if (seventy_billion() && (chosen == Q3_K || chosen == Q4_K)) return Q5_K;
    return type;
  }

  std::optional<GgmlType> value_by_mix() const {
    if (is({"Q2_K"})) return grouped_by_four() ? Q4_K : Q3_K;
    if (is({"Q2_K_S"}) && grouped_by_four()) return Q4_K;
    if (is({"Q3_K_M"})) return layer < 2 ? Q5_K : Q4_K;
    if (is({"Q3_K_L"})) return Q5_K;
    if (is({"IQ4_NL", "IQ4_XS"}) && grouped_by_four()) return Q5_K;
    if (is({"Q4_K_M", "Q5_K_M"}) && more()) return Q6_K;
    if (is({"Q4_K_S"}) && layer < 4) return Q5_K;
    return {};
  }

  std::optional<GgmlType> key() const {
    if (model.experts == 8) return Q8_0;
    return {};
  }

  std::optional<GgmlType> attention_output() const {
    if (model.experts == 8) {
      if (is({"Q2_K", "Q3_K_S", "Q3_K_M", "IQ4_NL", "IQ4_XS", "Q4_K_S", "Q4_K_M"})) return Q5_K;
      return {};
    }
    if (is({"Q2_K"})) return Q3_K;
    if (is({"Q3_K_M"})) return Q4_K;
    if (is({"Q3_K_L"})) return Q5_K;
    return {};
  }

  std::optional<GgmlType> down() const {
    if (is({"Q2_K"})) return Q3_K;
    if (is({"Q2_K_S"}) && within_first(8)) return Q4_K;
    if (is({"Q3_K_M"})) return within_first(16) ? Q5_K : Q4_K;
    if (is({"Q3_K_L"})) return Q5_K;
    if (is({"Q4_K_M", "Q5_K_M"}) && more()) return Q6_K;
    if (is({"Q4_K_S"}) && within_first(8)) return Q5_K;
    if (is({"IQ4_NL", "IQ4_XS"}) && within_first(8) && !model.importances) return Q5_K;
    if (is({"Q4_0"}) && within_first(8) && model.importances) return Q4_1;
    if (is({"Q5_0"}) && within_first(8) && model.importances) return Q5_1;
    return {};
  }

  std::optional<GgmlType> of(Role role) const {
    switch (role) {
      case Role::output:
        return output();
      case Role::embedding:
        return embedding();
      case Role::value:
        return value();
      case Role::key:
        return key();
      case Role::attention_output:
        return attention_output();
      case Role::down:
        return down();
      case Role::other:
      case Role::unquantised:
        break;
    }
    return {};
  }
};

bool same_but_for_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::toupper(x) == std::toupper(y); });
}

}  // namespace

std::span<const GgufMix> gguf_mixes() { return kMixes; }

const GgufMix* find_mix(std::string_view name) {
  for (const auto& [alias, meant] : kAliases) {
    if (same_but_for_case(name, alias)) return find_mix(meant);
  }
  const auto row =
      std::ranges::find_if(kMixes, [&](const GgufMix& mix) { return same_but_for_case(name, mix.name); });
  return row == kMixes.end() ? nullptr : &*row;
}

bool known_mix(const std::string& name) { return find_mix(name) != nullptr; }

GgmlType wanted_type(const std::string& mix, const MixModel& model, const MixTensor& tensor) {
  const GgufMix* row = find_mix(mix);
  if (row == nullptr) {
    std::vector<std::string_view> names;
    for (const GgufMix& known : kMixes) names.push_back(known.name);
    user_error("unknown GGUF type '{}'; known: {}", mix, fmt::join(names, ", "));
  }
  const Role role = role_of(model, tensor);
  if (role == Role::unquantised) return F32;
  if (traits(row->base).length == 1) return row->base;
  if (row->name == "MXFP4_MOE" && role != Role::output) return tensor.experts > 1 ? MXFP4 : Q8_0;
  return Rules{row->name, row->base, model, tensor.layer}.of(role).value_or(row->base);
}

GgmlType fitting_type(GgmlType wanted, int64_t columns) {
  if (divides(wanted, columns)) return wanted;
  const auto smaller = [&] {
    switch (wanted) {
      case IQ4_XS:
        return IQ4_NL;
      case Q2_K:
      case Q3_K:
      case TQ1_0:
      case TQ2_0:
        return Q4_0;
      case Q4_K:
        return Q5_0;
      case Q5_K:
        return Q5_1;
      case Q6_K:
        return Q8_0;
      default:
        return F16;
    }
  };
  const GgmlType type = smaller();
  return divides(type, columns) ? type : F16;
}

GgmlType tensor_type(const std::string& mix, const MixModel& model, const MixTensor& tensor) {
  return fitting_type(wanted_type(mix, model, tensor), tensor.columns);
}

}  // namespace lathe
