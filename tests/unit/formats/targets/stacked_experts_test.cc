// transformers 5 can keep all experts of a block in one tensor; readers see one weight an expert either way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/targets/model_folder.h"
#include "lib/base/error.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

using test::Artefact;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kExperts = 3;
const std::string kStacked = "model.layers.1.mlp.experts.gate_up_proj";

/// A Mixtral whose tensors are spelt out.
Artefact mixtral() {
  Artefact model;
  model.config["model_type"] = "mixtral";
  model.config["architectures"] = {"MixtralForCausalLM"};
  model.config["num_local_experts"] = kExperts;
  model.config["num_experts_per_tok"] = 2;
  model.graph = build_graph(parse_model_config(model.config, "config.json"));
  model.tensors.clear();
  for (const auto& [name, shape] : model.graph.expected_tensors())
    model.tensors[name] = at::randn(shape).to(at::kHalf);
  return model;
}

/// The same with its experts stacked, gate's rows before up's, as save_pretrained(save_original_format=False)
/// has it.
Artefact stacked(const Artefact& spelt) {
  Artefact model = spelt;
  for (const Block& block : spelt.graph.blocks) {
    const auto take = [&](LinearRole role, std::optional<int64_t> expert) {
      const std::string name = block.find(role, expert)->name + ".weight";
      model.tensors.erase(name);
      return spelt.tensors.at(name);
    };
    std::vector<at::Tensor> gate_up, down;
    for (int64_t expert = 0; expert < kExperts; ++expert) {
      gate_up.push_back(at::cat({take(LinearRole::gate_proj, expert), take(LinearRole::up_proj, expert)}));
      down.push_back(take(LinearRole::down_proj, expert));
    }
    const std::string part = block.prefix + ".mlp.";
    model.tensors[part + "experts.gate_up_proj"] = at::stack(gate_up);
    model.tensors[part + "experts.down_proj"] = at::stack(down);
    model.tensors[part + "gate.weight"] = take(LinearRole::router, std::nullopt);
  }
  return model;
}

TEST(StackedExperts, AreReadAsOneWeightAnExpert) {
  const Artefact spelt = mixtral(), model = stacked(spelt);
  EXPECT_EQ(model.tensors.at(kStacked).sizes(), (at::IntArrayRef{3, 192, 64}));
  const TemporaryFolder folder;
  model.write(folder.path());
  const ModelFolder opened = open_model_folder(folder.path());
  EXPECT_FALSE(opened.checkpoint->contains(kStacked));
  EXPECT_EQ(opened.checkpoint->tensors().size(), spelt.tensors.size());
  for (const auto& [name, tensor] : spelt.tensors) {
    ASSERT_TRUE(opened.weights->contains(name)) << name;
    EXPECT_TRUE(opened.weights->load(name).equal(tensor.to(at::kFloat))) << name;
    EXPECT_EQ(opened.checkpoint->tensors().at(name).shape, tensor.sizes().vec()) << name;
  }
}

std::string error_of(const Artefact& artefact) {
  const TemporaryFolder folder;
  artefact.write(folder.path());
  try {
    open_model_folder(folder.path());
  } catch (const UserError& error) {
    const std::string message = error.what();
    EXPECT_THAT(message, HasSubstr(folder.path().string()));
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }
  return "";
}

TEST(StackedExperts, ContradictionsAreRefused) {
  Artefact model = stacked(mixtral());
  EXPECT_EQ(error_of(model), "");
  const at::Tensor whole = model.tensors.at(kStacked);
  model.tensors[kStacked] = whole.transpose(1, 2).contiguous();  // as some other families store them
  EXPECT_THAT(error_of(model),
              AllOf(HasSubstr(kStacked), HasSubstr("[3, 192, 64]"), HasSubstr("[3, 64, 192]")));
  model.tensors[kStacked] = whole.slice(0, 0, 2).contiguous();
  EXPECT_THAT(error_of(model), AllOf(HasSubstr(kStacked), HasSubstr("[2, 192, 64]")));
  model.tensors[kStacked] = at::zeros({3, 192, 0}, at::kHalf);
  EXPECT_THAT(error_of(model), HasSubstr("[3, 192, 0]"));
  model.tensors.erase(kStacked);
  EXPECT_THAT(error_of(model),
              AllOf(HasSubstr("block_sparse_moe.experts.0.w1.weight"), HasSubstr("missing")));
  model.tensors[kStacked] = whole;
  model.tensors["model.layers.1.block_sparse_moe.experts.2.w3.weight"] = at::zeros({96, 64}, at::kHalf);
  EXPECT_THAT(error_of(model),
              AllOf(HasSubstr(kStacked), HasSubstr("experts.2.w3.weight"), HasSubstr("both hold")));
}

TEST(StackedExperts, AnExpertTooManyIsRefused) {
  Artefact model = mixtral();
  model.tensors["model.layers.0.block_sparse_moe.experts.3.w1.weight"] = at::zeros({96, 64}, at::kHalf);
  EXPECT_THAT(error_of(model), AllOf(HasSubstr("experts.3.w1.weight"), HasSubstr("3 experts")));
}

TEST(CheckpointSplit, RefusesPartsThatLeaveOrRepeatRows) {
  const Artefact model = mixtral();
  const TemporaryFolder folder;
  model.write(folder.path());
  const std::string name = "model.embed_tokens.weight";  // [50, 64]
  Checkpoint checkpoint = Checkpoint::open(folder.path());
  const auto split = [&](std::vector<Checkpoint::Part> parts) { checkpoint.split(name, parts); };
  EXPECT_THROW(split({{"a", 20, 0}, {"b", 29, 20}}), InternalError);
  Checkpoint again = Checkpoint::open(folder.path());
  EXPECT_THROW(again.split(name, {{"a", 30, 0}, {"b", 30, 20}}), InternalError);
  Checkpoint taken = Checkpoint::open(folder.path());
  EXPECT_THROW(taken.split(name, {{"lm_head.weight", 50, 0}}), InternalError);
  Checkpoint good = Checkpoint::open(folder.path());
  good.split(name, {{"b", 30, 20}, {"a", 20, 0}});
  EXPECT_EQ(good.view("b").info, (TensorInfo{DType::F16, {30, 64}}));
  EXPECT_EQ(good.view("a").bytes.size() + good.view("b").bytes.size(), 50u * 64 * 2);
  EXPECT_EQ(good.view("a").bytes.data() + 20 * 64 * 2, good.view("b").bytes.data());
  EXPECT_FALSE(good.contains(name));
}

}  // namespace
}  // namespace lathe
