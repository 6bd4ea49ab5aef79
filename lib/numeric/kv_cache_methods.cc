#include "lib/numeric/kv_cache_methods.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <span>

namespace lathe {
namespace {

constexpr double kMostTokens = 1 << 20, kMostGroup = 1 << 16;

KvCacheSetting bits_of(const char* key, double KvCacheScheme::*member, std::vector<double> choices) {
  return {.key = key, .member = member, .choices = std::move(choices)};
}

nlohmann::json json_of(double number) {
  const auto whole = static_cast<int64_t>(number);
  return static_cast<double>(whole) == number ? nlohmann::json(whole) : nlohmann::json(number);
}
nlohmann::json json_of(int64_t number) { return number; }
nlohmann::json json_of(bool truth) { return truth; }
nlohmann::json json_of(KvCacheWeights weights) { return name_of(weights); }

}  // namespace

bool KvCacheSetting::allows(double number) const {
  if (!choices.empty()) return std::ranges::find(choices, number) != choices.end();
  if (!(number >= least && number <= most)) return false;
  if (std::holds_alternative<double KvCacheScheme::*>(member)) return true;
  return std::fmod(number, static_cast<double>(multiple_of)) == 0;
}

std::string KvCacheSetting::expected() const {
  if (std::holds_alternative<bool KvCacheScheme::*>(member)) return "true or false";
  if (std::holds_alternative<KvCacheWeights KvCacheScheme::*>(member)) return "attention or fisher";
  if (!choices.empty()) {
    const std::span<const double> all(choices);
    return fmt::format("{} or {}", fmt::join(all.first(all.size() - 1), ", "), all.back());
  }
  if (std::holds_alternative<double KvCacheScheme::*>(member))
    return fmt::format("a number from {:g} to {:g}", least, most);
  const auto first = static_cast<int64_t>(least), last = static_cast<int64_t>(most);
  return multiple_of == 1 ? fmt::format("an integer from {} to {}", first, last)
                          : fmt::format("a multiple of {} from {} to {}", multiple_of, first, last);
}

const std::vector<KvCacheMethod>& kv_cache_methods() {
  using S = KvCacheScheme;
  static const std::vector<KvCacheMethod> methods = {
      {{.type = "kivi", .bits = 2, .value_bits = 2, .group_size = 32, .window = 128},
       {bits_of("bits", &S::bits, {2, 4}),
        bits_of("value_bits", &S::value_bits, {2, 4}),
        {"group_size", &S::group_size, 8, kMostGroup, 8},
        {"window", &S::window, 8, kMostTokens}}},
      {{.type = "kvquant",
        .bits = 4,
        .value_bits = 4,
        .sink = 1,
        .outliers = 0.01,
        .weights = KvCacheWeights::fisher},
       {bits_of("bits", &S::bits, {2, 3, 4, 5}),
        bits_of("value_bits", &S::value_bits, {2, 3, 4, 5}),
        {"outliers", &S::outliers, 0, 0.1},
        {"sink", &S::sink, 0, kMostTokens},
        {"q_norm", &S::q_norm},
        {"weights", &S::weights}}},
      {{.type = "skvq", .bits = 2, .value_bits = 2, .group_size = 64, .window = 128, .sink = 5},
       {bits_of("bits", &S::bits, {kTernaryBits, 2, 3, 4}),
        bits_of("value_bits", &S::value_bits, {kTernaryBits, 2, 3, 4}),
        {"group_size", &S::group_size, 8, kMostGroup, 8},
        {"window", &S::window, 1, kMostTokens},
        {"sink", &S::sink, 0, kMostTokens},
        {"fp8_scales", &S::fp8_scales}}},
  };
  return methods;
}

const KvCacheMethod* find_kv_cache_method(const std::string& type) {
  const auto found =
      std::ranges::find_if(kv_cache_methods(), [&](const auto& row) { return row.defaults.type == type; });
  return found == kv_cache_methods().end() ? nullptr : &*found;
}

nlohmann::json kv_cache_json(const KvCacheScheme& scheme) {
  const KvCacheMethod* const method = find_kv_cache_method(scheme.type);
  if (method == nullptr)
    return {
        {"type", scheme.type}, {"bits", json_of(scheme.bits)}, {"per", scheme.per_head ? "head" : "tensor"}};
  nlohmann::json result = {{"type", scheme.type}};
  for (const KvCacheSetting& setting : method->settings)
    std::visit([&](auto member) { result[setting.key] = json_of(scheme.*member); }, setting.member);
  return result;
}

}  // namespace lathe
