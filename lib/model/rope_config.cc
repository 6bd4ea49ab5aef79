#include "lib/model/rope_config.h"

#include <nlohmann/json.hpp>

#include <array>

#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using Type = RopeConfig::Type;

struct TypeRow {
  std::string_view name;
  Type type;
};

constexpr std::array<TypeRow, 5> kTypes = {{
    {"default", Type::default_},
    {"linear", Type::linear},
    {"dynamic", Type::dynamic},
    {"yarn", Type::yarn},
    {"llama3", Type::llama3},
}};

Type parse_type(const JsonFields& fields) {
  const std::string key = fields.contains("rope_type") ? "rope_type" : "type";
  const std::string name = fields.word(key).value_or("default");
  std::vector<std::string> known;
  for (const TypeRow& row : kTypes) {
    if (row.name == name) return row.type;
    known.emplace_back(row.name);
  }
  fields.fail(key, fmt::format("one of {}", join_words(known)));
}

double number_above(const JsonFields& fields, const std::string& key, double value, double bound) {
  if (!(value > bound)) fields.fail(key, fmt::format("a number above {}", bound));
  return value;
}

void refuse_partial_rotation(const JsonFields& fields) {
  const std::optional<double> part = fields.number("partial_rotary_factor");
  if (part && *part != 1.0) fields.fail("partial_rotary_factor", "1 (partial rotation is not supported)");
}

// transformers gives a top-level original_max_position_embeddings precedence over the nested one, and falls
// back to max_position_embeddings.
int64_t original_max_position(const JsonFields& config, const JsonFields& fields, int64_t max_position) {
  constexpr int64_t kLongest = int64_t{1} << 40;
  const std::string key = "original_max_position_embeddings";
  if (const auto outer = config.size(key, kLongest)) return *outer;
  return fields.size(key, kLongest).value_or(max_position);
}

void parse_yarn(const JsonFields& fields, RopeConfig& rope) {
  // Zero means "not given" for these, as Python's `or` has it.
  const auto given = [&](const char* key, double fallback) {
    const double value = fields.number(key).value_or(0.0);
    return value == 0.0 ? fallback : number_above(fields, key, value, 0.0);
  };
  rope.beta_fast = given("beta_fast", 32.0);
  rope.beta_slow = given("beta_slow", 1.0);
  rope.attention_factor = fields.number("attention_factor");
  rope.mscale = fields.number("mscale");
  rope.mscale_all_dim = fields.number("mscale_all_dim");
  rope.truncate = fields.flag("truncate").value_or(true);
}

void parse_llama3(const JsonFields& fields, RopeConfig& rope) {
  rope.low_freq_factor =
      number_above(fields, "low_freq_factor", fields.required_number("low_freq_factor"), 0.0);
  rope.high_freq_factor =
      number_above(fields, "high_freq_factor", fields.required_number("high_freq_factor"), 0.0);
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    fields.fail("high_freq_factor", fmt::format("a number above low_freq_factor ({})", rope.low_freq_factor));
  }
}

void parse_scaling(const JsonFields& config, const JsonFields& fields, int64_t max_position,
                   RopeConfig& rope) {
  if (rope.type == Type::default_) return;
  if (rope.type == Type::yarn || rope.type == Type::llama3) {
    rope.original_max_position = original_max_position(config, fields, max_position);
  }
  // YaRN alone may leave the factor to the ratio of the two lengths.
  if (rope.type == Type::yarn && !fields.contains("factor")) {
    rope.factor = static_cast<double>(max_position) / static_cast<double>(rope.original_max_position);
  } else {
    rope.factor = number_above(fields, "factor", fields.required_number("factor"), 0.0);
  }
  if (rope.type == Type::yarn) parse_yarn(fields, rope);
  if (rope.type == Type::llama3) parse_llama3(fields, rope);
}

// "" where neither spelling is there (or both are null or empty).
std::string scaling_key(const JsonFields& config) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const nlohmann::json* value = config.find(key);
    if (value != nullptr && !(value->is_object() && value->empty())) return key;
  }
  return "";
}

}  // namespace

RopeConfig parse_rope_config(const JsonFields& config, int64_t head_dim, int64_t max_position) {
  RopeConfig rope;
  rope.theta = config.number("rope_theta").value_or(rope.theta);
  refuse_partial_rotation(config);
  const std::string key = scaling_key(config);
  if (key.empty()) {
    number_above(config, "rope_theta", rope.theta, 1.0);
    return rope;
  }
  const JsonFields fields(*config.find(key), config.file(), key + ".");
  for (const char* layer_type : {"full_attention", "sliding_attention"}) {
    if (fields.contains(layer_type)) fields.fail(layer_type, "one set of parameters for all layers");
  }
  rope.type = parse_type(fields);
  refuse_partial_rotation(fields);
  const bool inner_theta = fields.contains("rope_theta");
  if (inner_theta) rope.theta = *fields.number("rope_theta");
  number_above(inner_theta ? fields : config, "rope_theta", rope.theta, 1.0);
  parse_scaling(config, fields, max_position, rope);
  if (rope.type == Type::dynamic && head_dim <= 2)
    config.fail("head_dim", "more than 2 for dynamic rope scaling");
  return rope;
}

}  // namespace lathe
