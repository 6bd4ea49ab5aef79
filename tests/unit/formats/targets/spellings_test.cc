// Tensor names of older releases of transformers are read as those that the graph gives, and nothing else
// about the checkpoint changes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/targets/model_folder.h"
#include "lib/base/error.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

using test::Artefact;
using test::TemporaryFolder;
using testing::AllOf;
using testing::HasSubstr;

const std::string kVision = "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight";

/// A small Gemma 3 with a stub of a vision tower, in the names of the Hub's checkpoints.
Artefact old_gemma() {
  Artefact model;
  nlohmann::json text = model.config;
  for (const char* key : {"architectures", "rope_parameters", "hidden_act"}) text.erase(key);
  text.update({{"model_type", "gemma3_text"}, {"sliding_window", 8}});
  model.config = {{"model_type", "gemma3"},
                  {"dtype", "float16"},
                  {"architectures", {"Gemma3ForConditionalGeneration"}},
                  {"tie_word_embeddings", false},
                  {"text_config", text}};
  model.graph = build_graph(parse_model_config(model.config, "config.json"));
  model.tensors.clear();
  for (const auto& [name, shape] : model.graph.expected_tensors()) {
    std::string old = "language_model." + name;
    const std::string modern = "model.language_model.";
    if (name.starts_with(modern)) old = "language_model.model." + name.substr(modern.size());
    model.tensors[old] = at::randn(shape).to(at::kHalf);
  }
  model.tensors[kVision] = at::randn({8, 8}).to(at::kHalf);
  model.tensors["multi_modal_projector.mm_input_projection_weight"] = at::randn({8, 64}).to(at::kHalf);
  return model;
}

TEST(Spellings, OldNamesAreReadAsNewOnes) {
  const Artefact model = old_gemma();
  const TemporaryFolder folder;
  model.write(folder.path());
  const ModelFolder opened = open_model_folder(folder.path());
  for (const auto& [modern, old] :
       {std::pair<std::string, std::string>{"lm_head.weight", "language_model.lm_head.weight"},
        {"model.language_model.norm.weight", "language_model.model.norm.weight"},
        {"model." + kVision, kVision}}) {
    ASSERT_TRUE(opened.checkpoint->contains(modern)) << modern;
    EXPECT_FALSE(opened.checkpoint->contains(old)) << old;
    EXPECT_EQ(opened.checkpoint->file_of(modern), "model.safetensors");
    EXPECT_TRUE(opened.weights->load(modern).equal(model.tensors.at(old).to(at::kFloat))) << modern;
  }
  EXPECT_EQ(opened.checkpoint->tensors().size(), model.tensors.size());
}

TEST(Spellings, BothOfOneTensorAreRefused) {
  Artefact model = old_gemma();
  model.tensors["lm_head.weight"] = model.tensors.at("language_model.lm_head.weight");
  const TemporaryFolder folder;
  model.write(folder.path());
  try {
    open_model_folder(folder.path());
    FAIL() << "one of two tensors was chosen in silence";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr(folder.path().string()), HasSubstr("'lm_head.weight'"),
                                    HasSubstr("'language_model.lm_head.weight'")));
  }
}

TEST(Spellings, OtherFamiliesKeepTheirNames) {
  Artefact model;
  model.tensors["vision_tower.x"] = at::zeros({2}, at::kHalf);
  const TemporaryFolder folder;
  model.write(folder.path());
  EXPECT_TRUE(open_model_folder(folder.path()).checkpoint->contains("vision_tower.x"));
}

}  // namespace
}  // namespace lathe
