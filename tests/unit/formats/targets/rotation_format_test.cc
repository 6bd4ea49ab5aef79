// transform_config, as it is written and as it is read.
#include "formats/targets/rotation_format.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "lib/base/error.h"
#include "lib/numeric/hadamard.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

using nlohmann::json;
using test::Artefact;
using ::testing::HasSubstr;

Artefact rotated_artefact() {
  Artefact artefact;
  Scheme scheme = Scheme::of_floats("nvfp4");
  scheme.hadamard = 16;
  artefact.pack([&](const Linear&) { return scheme; });
  return artefact;
}

json written() { return rotated_artefact().config.at("quantization_config").at("transform_config"); }

/// The one scheme.
json& scheme_of(json& config) { return config["config_groups"]["hadamard"]; }

std::string error_of(const json& config) {
  try {
    parse_rotation(config, "x");
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(RotationFormat, IsWrittenAsTheLibraryDumpsIt) {
  EXPECT_EQ(written(), json::parse(R"({"config_groups": {"hadamard": {
    "type": "hadamard",
    "apply": [{"targets": ["Linear"], "location": "input", "inverse": false, "ignore": ["lm_head"]},
              {"targets": ["Linear"], "location": "weight_input", "inverse": true, "ignore": ["lm_head"]}],
    "randomize": false, "requires_grad": false, "head_dim": 16, "precision": "torch.float32"}}})"));
}

TEST(RotationFormat, MatrixIsSylvesters) {
  const at::Tensor expected =
      at::tensor({1., 1., 1., 1., 1., -1., 1., -1., 1., 1., -1., -1., 1., -1., -1., 1.}, at::kFloat)
          .view({4, 4});
  EXPECT_TRUE(rotation_signs(4).equal(expected));
}

TEST(RotationFormat, ReadsWhatItWritesAndNothingForNone) {
  const auto rotation = parse_rotation(written(), "x");
  ASSERT_TRUE(rotation);
  EXPECT_EQ(rotation->block, 16);
  EXPECT_EQ(rotation->name, "hadamard");
  EXPECT_EQ(rotation->ignore.patterns(), std::vector<std::string>{"lm_head"});
  for (const json& none : {json(), json::object()}) EXPECT_FALSE(parse_rotation(none, "x"));
}

TEST(RotationFormat, RefusesWhatItDoesNotKnow) {
  struct Case {
    const char* error;
    void (*change)(json&);
  };
  const Case cases[] = {
      {"x.config_groups.hadamard.type: expected", [](json& c) { scheme_of(c)["type"] = "random-hadamard"; }},
      {"x.config_groups.hadamard.randomize: expected false",
       [](json& c) { scheme_of(c)["randomize"] = true; }},
      {"x.config_groups.hadamard.head_dim: expected 16, 32, 64 or 128",
       [](json& c) { scheme_of(c)["head_dim"] = 48; }},
      {"x.config_groups.hadamard.head_dim", [](json& c) { scheme_of(c)["head_dim"] = nullptr; }},
      {"x.config_groups.hadamard.apply: expected one entry", [](json& c) { scheme_of(c)["apply"].erase(1); }},
      {"x.config_groups.hadamard.apply[1].location",
       [](json& c) { scheme_of(c)["apply"][1]["location"] = "output"; }},
      {"x.config_groups.hadamard.apply: expected one entry",
       [](json& c) { scheme_of(c)["apply"][1]["ignore"] = json::array(); }},
      {"x.config_groups.hadamard.apply: expected one entry",
       [](json& c) { scheme_of(c)["apply"][1]["location"] = "input"; }},
      {"x.config_groups.hadamard", [](json& c) { scheme_of(c)["seed"] = 3; }},
      {"x.config_groups: expected an object with one scheme",
       [](json& c) { c["config_groups"]["other"] = scheme_of(c); }},
      {"x.config_groups: expected", [](json& c) { c["config_groups"] = json::array(); }},
  };
  for (const Case& test : cases) {
    json config = written();
    test.change(config);
    EXPECT_THAT(error_of(config), HasSubstr(test.error)) << config.dump();
  }
}

TEST(RotationFormat, RefusesAnotherMatrixBesideALinearAndTakesNone) {
  Artefact artefact = rotated_artefact();
  EXPECT_EQ(test::reading_error(artefact), "");
  const std::string name = "model.layers.1.mlp.up_proj.hadamard_input.weight";
  ASSERT_TRUE(artefact.tensors.contains(name));
  artefact.tensors[name] = artefact.tensors.at(name).clone();
  artefact.tensors[name][3][5] *= -1;
  EXPECT_THAT(test::reading_error(artefact), HasSubstr("[3, 5] is"));
  EXPECT_THAT(test::reading_error(artefact), HasSubstr("expected Sylvester's Hadamard matrix"));
  artefact.tensors.erase(name);  // llm-compressor keeps one for all linears
  EXPECT_EQ(test::reading_error(artefact), "");
}

TEST(RotationFormat, RefusesRotationsOfLinearsInFloatingPoint) {
  Artefact artefact;
  Scheme scheme = Scheme::of_floats("nvfp4");
  scheme.hadamard = 16;
  artefact.pack([&](const Linear& linear) {
    return linear.role == LinearRole::o_proj ? std::nullopt : std::optional(scheme);
  });
  EXPECT_EQ(test::reading_error(artefact), "");
  json& groups = artefact.config["quantization_config"]["transform_config"]["config_groups"];
  for (json& applied : groups["hadamard"]["apply"]) applied["ignore"] = {"lm_head"};
  EXPECT_THAT(test::reading_error(artefact), HasSubstr("o_proj', which is not quantised"));
}

}  // namespace
}  // namespace lathe
