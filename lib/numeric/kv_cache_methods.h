// The methods of KV caches below 8 bits, with what a recipe or a file may set of each: one table for those
// who read and write settings.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <variant>
#include <vector>

#include "lib/numeric/kv_cache.h"

namespace lathe {

struct KvCacheSetting {
  std::string key;  // "bits"
  std::variant<int64_t KvCacheScheme::*, double KvCacheScheme::*, bool KvCacheScheme::*,
               KvCacheWeights KvCacheScheme::*>
      member;
  double least = 0, most = 1;        // of numbers, both included
  int64_t multiple_of = 1;           // of whole numbers
  std::vector<double> choices = {};  // of numbers that are one of few

  bool allows(double number) const;
  /// "2 or 4", "1.5, 2, 3 or 4", "attention or fisher", "an integer from 0 to 1024", "a number from 0 to 0.1"
  std::string expected() const;
};

struct KvCacheMethod {
  KvCacheScheme defaults;  // type and all settings, as the papers have them
  std::vector<KvCacheSetting> settings;
};
const std::vector<KvCacheMethod>& kv_cache_methods();
/// Null for another type.
const KvCacheMethod* find_kv_cache_method(const std::string& type);

/// {"type": "kivi", "bits": 2, ...}: every setting of the type, float and int included.
nlohmann::json kv_cache_json(const KvCacheScheme& scheme);

}  // namespace lathe
