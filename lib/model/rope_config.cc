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

constexpr std::array<TypeRow, 6> kTypes = {{
    {"default", Type::default_},
    {"linear", Type::linear},
    {"dynamic", Type::dynamic},
    {"yarn", Type::yarn},
    {"llama3", Type::llama3},
    {"longrope", Type::longrope},
}};

Type parse_type(const JsonFields& fields, const RopeRule& rule) {
  const std::string key = fields.contains("rope_type") ? "rope_type" : "type";
  const std::string name = fields.word(key).value_or("default");
  if (rule.longrope_only) {
    if (name == "default") return Type::default_;
    if (name == "longrope" || name == "su" || name == "yarn") return Type::longrope;
    fields.fail(key, "default or longrope");
  }
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

/// Channels of a head that turn; the nested key goes first, as in transformers.
int64_t rotary_dim(const JsonFields& config, const JsonFields& fields, const RopeRule& rule,
                   int64_t head_dim) {
  const std::string key = "partial_rotary_factor";
  const JsonFields& owner = fields.contains(key) ? fields : config;
  const double part = owner.number(key).value_or(1.0);
  if (part != 1.0 && !rule.partial) owner.fail(key, "1 (this model_type turns all channels of a head)");
  const auto dim = static_cast<int64_t>(static_cast<double>(head_dim) * part);
  if (!(part > 0.0 && part <= 1.0) || dim < 2 || dim % 2 != 0) {
    owner.fail(key, fmt::format("a part of head_dim ({}) that is an even number of channels", head_dim));
  }
  return dim;
}

// transformers gives a top-level original_max_position_embeddings precedence over the nested one, and falls
// back to max_position_embeddings. A family whose config class has a default never looks at the nested one.
int64_t original_max_position(const JsonFields& config, const JsonFields& fields, const RopeRule& rule,
                              int64_t max_position) {
  constexpr int64_t kLongest = int64_t{1} << 40;
  const std::string key = "original_max_position_embeddings";
  if (const auto outer = config.size(key, kLongest)) return *outer;
  if (rule.original_max_position > 0) return rule.original_max_position;
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

std::vector<double> factor_list(const JsonFields& fields, const std::string& key, int64_t count) {
  const nlohmann::json* list = fields.find(key);
  const std::string expected =
      fmt::format("a list of {} numbers above 0, one for each pair of channels", count);
  if (list == nullptr || !list->is_array() || std::ssize(*list) != count) fields.fail(key, expected);
  std::vector<double> factors;
  for (const nlohmann::json& factor : *list) {
    if (!factor.is_number() || !(factor.get<double>() > 0)) fields.fail(key, expected);
    factors.push_back(factor.get<double>());
  }
  return factors;
}

void parse_longrope(const JsonFields& fields, RopeConfig& rope) {
  rope.short_factor = factor_list(fields, "short_factor", rope.rotary_dim / 2);
  rope.long_factor = factor_list(fields, "long_factor", rope.rotary_dim / 2);
  rope.attention_factor = fields.number("attention_factor");
}

void parse_scaling(const JsonFields& config, const JsonFields& fields, const RopeRule& rule,
                   int64_t max_position, RopeConfig& rope) {
  if (rope.type == Type::default_) return;
  const bool by_length = rope.type == Type::yarn || rope.type == Type::longrope;
  if (by_length || rope.type == Type::llama3) {
    rope.original_max_position = original_max_position(config, fields, rule, max_position);
  }
  // These two may leave the factor to the ratio of the two lengths.
  if (by_length && !fields.contains("factor")) {
    rope.factor = static_cast<double>(max_position) / static_cast<double>(rope.original_max_position);
  } else {
    rope.factor = number_above(fields, "factor", fields.required_number("factor"), 0.0);
  }
  if (rope.type == Type::yarn) parse_yarn(fields, rope);
  if (rope.type == Type::llama3) parse_llama3(fields, rope);
  if (rope.type == Type::longrope) parse_longrope(fields, rope);
}

// "" where neither spelling is there (or both are null or empty).
std::string scaling_key(const JsonFields& config) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const nlohmann::json* value = config.find(key);
    if (value != nullptr && !(value->is_object() && value->empty())) return key;
  }
  return "";
}

bool by_layer_type(const nlohmann::json& object) {
  return object.is_object() && (object.contains("full_attention") || object.contains("sliding_attention"));
}

/// One set of parameters. `theta`: where neither `fields` nor config.json's `theta_key` has one.
RopeConfig parse_one(const JsonFields& config, const JsonFields& fields, const RopeRule& rule,
                     const std::string& theta_key, double theta, const ModelConfig& model) {
  RopeConfig rope;
  const bool inner = fields.contains("rope_theta");
  const JsonFields& owner = inner ? fields : config;
  const std::string key = inner ? "rope_theta" : theta_key;
  rope.theta = number_above(owner, key, owner.number(key).value_or(theta), 1.0);
  rope.rotary_dim = rotary_dim(config, fields, rule, model.head_dim);
  rope.type = parse_type(fields, rule);
  parse_scaling(config, fields, rule, model.max_position, rope);
  if (rope.type == Type::dynamic && rope.rotary_dim <= 2)
    config.fail("head_dim", "more than 2 for dynamic rope scaling");
  return rope;
}

/// Two sets, in the layout of transformers 5 or 4: rope_scaling concerns the global layers alone.
void parse_two(const JsonFields& config, const RopeRule& rule, ModelConfig& model) {
  static const nlohmann::json kNothing = nlohmann::json::object();
  const nlohmann::json* parameters = config.find("rope_parameters");
  if (parameters != nullptr && !parameters->empty() && !by_layer_type(*parameters)) {
    config.fail("rope_parameters", "an object with full_attention and sliding_attention");
  }
  const auto of = [&](const char* layers) {
    const nlohmann::json* set =
        parameters == nullptr
            ? nullptr
            : JsonFields(*parameters, config.file(), config.prefix() + "rope_parameters.").find(layers);
    return set == nullptr ? JsonFields(kNothing, config.file())
                          : JsonFields(*set, config.file(),
                                       fmt::format("{}rope_parameters.{}.", config.prefix(), layers));
  };
  const nlohmann::json* scaling = config.find("rope_scaling");
  const JsonFields global = scaling == nullptr
                                ? of("full_attention")
                                : JsonFields(*scaling, config.file(), config.prefix() + "rope_scaling.");
  model.rope = parse_one(config, global, rule, "rope_theta", rule.theta, model);
  model.local_rope =
      parse_one(config, of("sliding_attention"), rule, "rope_local_base_freq", rule.local_theta, model);
}

}  // namespace

void parse_rope_config(const JsonFields& config, const RopeRule& rule, ModelConfig& model) {
  if (rule.local_theta > 0) return parse_two(config, rule, model);
  static const nlohmann::json kNothing = nlohmann::json::object();
  const std::string key = scaling_key(config);
  if (key.empty()) {
    model.rope =
        parse_one(config, JsonFields(kNothing, config.file()), rule, "rope_theta", rule.theta, model);
    return;
  }
  const JsonFields fields(*config.find(key), config.file(), config.prefix() + key + ".");
  for (const char* layer_type : {"full_attention", "sliding_attention"}) {
    if (fields.contains(layer_type)) fields.fail(layer_type, "one set of parameters for all layers");
  }
  model.rope = parse_one(config, fields, rule, "rope_theta", rule.theta, model);
}

double rope_attention_factor(const RopeConfig& rope) {
  const bool yarn = rope.type == RopeConfig::Type::yarn, longrope = rope.type == RopeConfig::Type::longrope;
  if (!yarn && !longrope) return 1.0;
  if (rope.attention_factor) return *rope.attention_factor;
  if (longrope) {
    const double length = static_cast<double>(rope.original_max_position);
    return rope.factor <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(rope.factor) / std::log(length));
  }
  const auto scale = [&](double mscale) {
    return rope.factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(rope.factor) + 1.0;
  };
  const double mscale = rope.mscale.value_or(0.0), all_dim = rope.mscale_all_dim.value_or(0.0);
  return mscale != 0.0 && all_dim != 0.0 ? scale(mscale) / scale(all_dim) : scale(1.0);
}

}  // namespace lathe
