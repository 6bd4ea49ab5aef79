#include <cmath>

#include "tests/unit/model/test_model.h"

namespace lathe {
namespace {

using nlohmann::json;
using Frequencies = std::vector<double>;

ModelConfig config_of(int64_t head_dim, const json& changes) {
  return parse_model_config(with(with(small_config(), {{"head_dim", head_dim}}), changes), "config.json");
}

// Every position's cos and sin against `attention_factor` times those of position * frequency.
void expect_tables(const ModelConfig& config, int64_t seq, const Frequencies& frequencies,
                   double attention_factor = 1) {
  const RopeTables rope = rope_tables(config, seq, at::kCPU);
  const int64_t half = std::ssize(frequencies);
  ASSERT_EQ(rope.cos.sizes(), (at::IntArrayRef{seq, 2 * half}));
  ASSERT_EQ(rope.sin.sizes(), (at::IntArrayRef{seq, 2 * half}));
  ASSERT_EQ(rope.cos.scalar_type(), at::kFloat);
  for (int64_t p = 0; p < seq; ++p) {
    for (int64_t i = 0; i < 2 * half; ++i) {
      const double angle = static_cast<double>(p) * frequencies[i % half];
      EXPECT_NEAR(rope.cos[p][i].item<double>(), attention_factor * std::cos(angle), 2e-6) << p << " " << i;
      EXPECT_NEAR(rope.sin[p][i].item<double>(), attention_factor * std::sin(angle), 2e-6) << p << " " << i;
    }
  }
}

json scaling(json parameters) { return {{"rope_scaling", std::move(parameters)}}; }

TEST(RopeTables, Default) {
  expect_tables(config_of(4, json::object()), 6, {1.0, 0.01});
  expect_tables(config_of(4, {{"rope_theta", 1e6}}), 6, {1.0, 0.001});
}

TEST(RopeTables, Linear) {
  expect_tables(config_of(4, scaling({{"type", "linear"}, {"factor", 2.5}})), 6, {0.4, 0.004});
}

TEST(RopeTables, DynamicGrowsOnlyBeyondTheTrainedLength) {
  const ModelConfig config = config_of(
      4, {{"max_position_embeddings", 4}, {"rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}}});
  expect_tables(config, 3, {1.0, 0.01});
  expect_tables(config, 4, {1.0, 0.01});
  // base = 10000 * (2 * 8 / 4 - 1)^(4 / 2) = 90000
  expect_tables(config, 8, {1.0, 1.0 / 300.0});
}

TEST(RopeTables, Llama3) {
  const json parameters = {{"rope_type", "llama3"},
                           {"factor", 8.0},
                           {"low_freq_factor", 1.0},
                           {"high_freq_factor", 4.0},
                           {"original_max_position_embeddings", 64}};
  // Wavelengths 6.28 < 64 / 4: kept; 628 > 64 / 1: divided by 8.
  expect_tables(config_of(4, scaling(parameters)), 6, {1.0, 0.00125});
  // theta 25: wavelength 31.416 lies between; smooth = (64 / 31.416 - 1) / 3 = 0.345728,
  // 0.2 * ((1 - 0.345728) / 8 + 0.345728) = 0.0855024
  expect_tables(config_of(4, with({{"rope_theta", 25.0}}, scaling(parameters))), 6, {1.0, 0.0855024});
}

json yarn(const json& more) {
  return scaling(with({{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32}}, more));
}

TEST(RopeTables, Yarn) {
  const double factor = 1.1386294;  // 0.1 ln 4 + 1
  // The ramp ends at channel 8 ln(32 / 2 pi) / (2 ln 10000) = 0.71, rounded up to 1: all but channel 0
  // interpolate.
  expect_tables(config_of(8, yarn(json::object())), 6, {1.0, 0.025, 0.0025, 0.00025}, factor);
  // beta_slow 0.1: ends at 1.70697, rounded up to 2: channel 1 is half and half.
  expect_tables(config_of(8, yarn({{"beta_slow", 0.1}})), 6, {1.0, 0.0625, 0.0025, 0.00025}, factor);
  // Not rounded: channel 1 interpolates by 1 / 1.70697 = 0.585833.
  expect_tables(config_of(8, yarn({{"beta_slow", 0.1}, {"truncate", false}})), 6,
                {1.0, 0.0560625, 0.0025, 0.00025}, factor);
}

TEST(RopeTables, YarnAttentionFactor) {
  const Frequencies frequencies = {1.0, 0.025, 0.0025, 0.00025};
  expect_tables(config_of(8, yarn({{"attention_factor", 1.5}})), 4, frequencies, 1.5);
  // (0.05 ln 4 + 1) / (0.2 ln 4 + 1); one of the two alone changes nothing.
  expect_tables(config_of(8, yarn({{"mscale", 0.5}, {"mscale_all_dim", 2.0}})), 4, frequencies, 0.8371949);
  expect_tables(config_of(8, yarn({{"mscale", 0.5}})), 4, frequencies, 1.1386294);
}

}  // namespace
}  // namespace lathe
