#include "recipes/calibration_section.h"

#include <fmt/format.h>

#include <limits>

#include "lib/base/error.h"

namespace lathe {
namespace {

/// Parts of a mix: between a millionth and a million.
constexpr double kMinWeight = 1e-6;
constexpr int64_t kMaxSamples = 1'000'000;
constexpr const char* kDataPath = "a .txt, .jsonl, .parquet, .npy or .safetensors file";

/// {path, field, weight, samples, token_weight}, or the path alone.
DataSource read_source(const YamlField& item) {
  DataSource source;
  if (item.is_scalar()) {
    source.path = item.text(kDataPath);
    return source;
  }
  item.expect_map({"path", "field", "weight", "samples", "token_weight"});
  if (!item.has("path")) item.refuse("the key 'path'");
  source.path = item.at("path").text(kDataPath);
  if (item.has("field")) source.field = item.at("field").text("the name of a JSON key, column or tensor");
  if (item.has("weight")) source.weight = item.at("weight").number(kMinWeight, 1 / kMinWeight);
  if (item.has("samples")) source.samples = item.at("samples").integer(1, kMaxSamples);
  if (item.has("token_weight"))
    source.token_weight = item.at("token_weight").number(kMinWeight, 1 / kMinWeight);
  if (source.weight > 0 && source.samples > 0) {
    user_error(
        "{}: {}: expected `weight` (a share of calibration.samples) or `samples` (so many), found both: "
        "weight {:g}, samples {}; leave one of them out",
        item.where(), item.path(), source.weight, source.samples);
  }
  return source;
}

/// Where every source says how many samples it gives, their sum is the default, and nothing else is right.
void read_samples(const YamlField& field, Recipe::Calibration& calibration) {
  int64_t sum = 0;
  bool all_counted = !calibration.data.empty();
  for (const DataSource& source : calibration.data) {
    all_counted = all_counted && source.samples > 0;
    sum += source.samples;
  }
  if (all_counted) calibration.samples = sum;
  if (!field.has("samples")) return;
  calibration.samples = field.at("samples").integer(1, kMaxSamples);
  if (all_counted && calibration.samples != sum)
    field.at("samples").refuse(fmt::format("{}, what the sources' own samples add up to", sum));
}

ExpertPolicy read_experts(const YamlField& field) {
  ExpertPolicy policy;
  field.expect_map({"min_tokens", "fallback"});
  if (field.has("min_tokens")) policy.min_tokens = field.at("min_tokens").integer(0, 1'000'000'000);
  if (field.has("fallback"))
    policy.fallback = field.at("fallback").one_of({ExpertFallback::all_tokens, ExpertFallback::weight_only});
  return policy;
}

}  // namespace

void read_calibration(const YamlField& field, Recipe::Calibration& calibration) {
  field.expect_map({"data", "samples", "seq_len", "seed", "packing", "min_tokens", "special_tokens", "bos",
                    "propagate", "experts"});
  if (field.has("data")) {
    const YamlField data = field.at("data");
    const std::vector<YamlField> items =
        data.is_scalar() ? std::vector<YamlField>{data}
                         : data.list("a file, or a list of files such as [{path: text.txt}]");
    for (const YamlField& item : items) calibration.data.push_back(read_source(item));
  }
  read_samples(field, calibration);
  if (field.has("seq_len")) calibration.seq_len = field.at("seq_len").integer(2, 1 << 20);
  if (field.has("seed"))
    calibration.seed =
        static_cast<uint64_t>(field.at("seed").integer(0, std::numeric_limits<int64_t>::max()));
  if (field.has("packing"))
    calibration.packing = field.at("packing").one_of({Packing::pack, Packing::document});
  if (field.has("min_tokens")) calibration.min_tokens = field.at("min_tokens").integer(1, 1 << 20);
  if (field.has("special_tokens")) calibration.special_tokens = field.at("special_tokens").truth();
  if (field.has("bos")) {
    using text::BosRule;
    calibration.bos = field.at("bos").one_of({BosRule::automatic, BosRule::always, BosRule::never});
  }
  if (field.has("propagate"))
    calibration.propagate = field.at("propagate").one_of({Propagate::quantised, Propagate::reference});
  if (field.has("experts")) calibration.experts = read_experts(field.at("experts"));
}

}  // namespace lathe
