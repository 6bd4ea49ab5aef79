// SpQR's layout against what spqr_quant's own packer wrote (tests/golden/spqr), and artefacts that nobody
// wrote.
#include "formats/targets/spqr.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/targets/model_folder.h"
#include "formats/targets/spqr_tiles.h"
#include "lib/base/error.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;

const Scheme kScheme = [] {
  Scheme scheme{"int", 3, 16, false};
  scheme.scale_grid = ScaleGrid{3, 16};
  return scheme;
}();

/// A golden file's inputs as the tensor they mean.
QuantizedTensor from_inputs(const std::map<std::string, at::Tensor>& golden) {
  const auto in = [&](const std::string& name) { return golden.at("in." + name); };
  const auto floats = [&](const std::string& name) { return in(name).to(at::kFloat); };
  QuantizedTensor tensor{kScheme, DType::F16, {}, {}, {}};
  const at::Tensor order = in("order");
  const at::Tensor codes = (in("codes").to(at::kShort) - 4).to(at::kChar);
  tensor.codes = at::empty_like(codes).index_copy_(1, order, codes);
  tensor.group_index = at::empty({order.numel()}, at::kInt);
  tensor.group_index.index_copy_(0, order, at::arange(order.numel(), at::kInt).div(16, "floor"));
  tensor.second_level = {in("scale_codes").to(at::kByte), in("zero_codes").to(at::kByte),
                         floats("scale_scales"),          floats("scale_zeros"),
                         floats("zero_scales"),           floats("zero_zeros")};
  const SecondLevel& level = *tensor.second_level;
  tensor.scales = decode_second_level(level.scale_codes, level.scale_scales, level.scale_zeros);
  tensor.zero_points = decode_second_level(level.zero_codes, level.zero_scales, level.zero_zeros) - 4;
  const at::Tensor kept = at::empty_like(floats("outliers")).index_copy_(1, order, floats("outliers"));
  tensor.outliers = outliers_of(kept);
  return tensor;
}

std::map<std::string, at::Tensor> golden(const std::string& name) {
  return test::read_safetensors(test::fs::path(LATHE_SOURCE_DIR) / "tests/golden/spqr" /
                                (name + ".safetensors"));
}

/// A golden's columns are in a random order within each group; ours ascend. The packed bytes of both say the
/// same once a golden is written in our order.
std::map<std::string, at::Tensor> in_our_order(std::map<std::string, at::Tensor> tensors) {
  const at::Tensor old_order = tensors.at("in.order");
  const at::Tensor new_order = std::get<0>(old_order.view({-1, 16}).sort(1)).flatten();
  at::Tensor place = at::empty_like(old_order);
  place.index_copy_(0, old_order, at::arange(old_order.numel(), at::kLong));
  const at::Tensor moved = place.index_select(0, new_order);
  for (const char* name : {"in.codes", "in.outliers"}) tensors[name] = tensors[name].index_select(1, moved);
  tensors["in.order"] = new_order;
  return tensors;
}

TEST(SpqrLibrary, ReadsWhatItPackedAsTheLibraryDoes) {
  for (const char* name : {"r32_c48", "r16_c64_no_outliers"}) {
    const auto tensors = golden(name);
    const int64_t rows = tensors.at("in.codes").size(0), cols = tensors.at("in.codes").size(1);
    const SpqrTiles tiles = unpack_spqr_tiles(tensors.at("out.dense_weights"), rows, cols);
    EXPECT_TRUE(tiles.consistent.item<bool>());
    EXPECT_TRUE(tiles.codes.equal(tensors.at("in.codes").to(at::kByte)));
    EXPECT_TRUE(tiles.level.scale_codes.equal(tensors.at("in.scale_codes").to(at::kByte)));
    EXPECT_TRUE(tiles.level.zero_codes.equal(tensors.at("in.zero_codes").to(at::kByte)));
    EXPECT_TRUE(tiles.level.scale_scales.equal(tensors.at("in.scale_scales").to(at::kFloat)));
    EXPECT_TRUE(tiles.level.scale_zeros.equal(tensors.at("in.scale_zeros").to(at::kFloat)));
    EXPECT_TRUE(tiles.level.zero_scales.equal(tensors.at("in.zero_scales").to(at::kFloat)));
    EXPECT_TRUE(tiles.level.zero_zeros.equal(tensors.at("in.zero_zeros").to(at::kFloat)));
    EXPECT_TRUE(pack_spqr_tiles(tiles.codes, tiles.level).equal(tensors.at("out.dense_weights")));
  }
}

TEST(SpqrLibrary, ValuesAreThoseTheLibraryDequantizes) {
  for (const char* name : {"r32_c48", "r16_c64_no_outliers"}) {
    const auto tensors = golden(name);
    // The library dequantises in the permuted order, and rounds each step to FP16.
    const at::Tensor ours = from_inputs(tensors).dequantize().index_select(1, tensors.at("in.order"));
    const at::Tensor theirs = tensors.at("dequant").to(at::kFloat);
    const double largest = theirs.abs().max().item<double>();
    EXPECT_TRUE(at::allclose(ours, theirs, 2e-3, 1e-3 * largest)) << (ours - theirs).abs().max();
  }
}

TEST(SpqrLibrary, PacksTheLibrarysBytes) {
  for (const char* name : {"r32_c48", "r16_c64_no_outliers"}) {
    const auto tensors = golden(name);
    const auto packed = spqr_target().pack("m", from_inputs(tensors));
    const std::map<std::string, at::Tensor> ours(packed.begin(), packed.end());
    EXPECT_TRUE(ours.at("m.row_offsets").equal(tensors.at("out.row_offsets")));
    EXPECT_EQ(ours.at("m.in_perm").sizes(), tensors.at("out.in_perm").sizes());
    const auto again = in_our_order(tensors);
    EXPECT_TRUE(ours.at("m.in_perm").equal(again.at("in.order").to(at::kShort).contiguous().view(at::kInt)));
    // Ours is a golden of its own order: same words once its columns are sorted.
    const SpqrTiles tiles = unpack_spqr_tiles(ours.at("m.dense_weights"), again.at("in.codes").size(0),
                                              again.at("in.codes").size(1));
    EXPECT_TRUE(tiles.codes.equal(again.at("in.codes").to(at::kByte)));
    const at::Tensor bits = ours.at("m.col_vals").view({-1, 1}).view(at::kShort);
    const auto sparse = outliers_of(again.at("in.outliers").to(at::kFloat));
    EXPECT_TRUE(bits.select(1, 0).to(at::kInt).equal(sparse.columns));
    EXPECT_TRUE(bits.select(1, 1).contiguous().view(at::kHalf).to(at::kFloat).equal(sparse.values));
  }
}

/// The library's own bytes where the order within groups is ours already.
TEST(SpqrLibrary, PermutationIsPackedAsTheLibraryDoes) {
  const auto tensors = golden("r32_c48");
  EXPECT_TRUE(
      tensors.at("out.in_perm").equal(tensors.at("in.order").to(at::kShort).contiguous().view(at::kInt)));
  const at::Tensor bits = tensors.at("out.col_vals").view({-1, 1}).view(at::kShort);
  const auto sparse = outliers_of(tensors.at("in.outliers").to(at::kFloat));
  EXPECT_TRUE(bits.select(1, 0).to(at::kInt).equal(sparse.columns));
  EXPECT_TRUE(bits.select(1, 1).contiguous().view(at::kHalf).to(at::kFloat).equal(sparse.values));
}

PlannedLinear linear_of(int64_t out, int64_t in) { return {"m", out, in, kScheme, DType::F16}; }

TEST(SpqrTarget, RefusesWhatTheLayoutCannotHold) {
  const Target target = spqr_target();
  EXPECT_FALSE(target.refuses(linear_of(32, 48)));
  PlannedLinear other = linear_of(32, 48);
  other.scheme.bits = 4;
  EXPECT_THAT(*target.refuses(other), HasSubstr("spqr_quant reads int3 asym g16, scales int3 r16 only"));
  EXPECT_THAT(*target.refuses(linear_of(24, 48)), HasSubstr("tiles are 16 x 16"));
  EXPECT_THAT(*target.refuses(linear_of(32, 40000)), HasSubstr("40000 input features"));
  other = linear_of(32, 48);
  other.bias = true;
  EXPECT_THAT(*target.refuses(other), HasSubstr("bias"));
  other = linear_of(32, 48);
  other.expert = true;
  EXPECT_THAT(*target.refuses(other), HasSubstr("mixture of experts"));
}

constexpr const char* kLinear = "model.layers.1.mlp.up_proj";

/// The tiny Llama with one linear [96, 64] in SpQR's layout, for tests to corrupt.
struct SpqrArtefact : test::Artefact {
  QuantizedTensor tensor;

  SpqrArtefact() {
    tensor = QuantizedTensor{kScheme, DType::F16, {}, {}, {}};
    tensor.codes = at::randint(-4, 4, {96, 64}, at::kChar);
    const auto codes = [] { return at::randint(0, 8, {96, 4}, at::kByte); };
    const auto numbers = [](double scale) { return (at::rand({6, 4}) * scale).to(at::kHalf).to(at::kFloat); };
    tensor.second_level = {codes(), codes(), numbers(0.01), -numbers(4), numbers(1), -numbers(2)};
    const SecondLevel& level = *tensor.second_level;
    tensor.scales = decode_second_level(level.scale_codes, level.scale_scales, level.scale_zeros);
    tensor.zero_points = decode_second_level(level.zero_codes, level.zero_scales, level.zero_zeros) - 4;
    tensor.group_index = at::randperm(64, at::kLong).div(16, "floor").to(at::kInt);
    tensor.outliers = outliers_of(at::randn({96, 64}) * (at::rand({96, 64}) < 0.02));
    const Target target = spqr_target();
    PlannedLinear planned{kLinear, 96, 64, kScheme, DType::F16};
    planned.outliers = tensor.outliers->count();
    tensors.erase(std::string(kLinear) + ".weight");
    for (const auto& [name, packed] : target.pack(kLinear, tensor)) tensors[name] = packed;
    std::vector<std::string> ignored = {"lm_head"};
    for (const Block& block : graph.blocks) {
      for (const Linear& linear : block.linears) {
        if (linear.name != kLinear) ignored.push_back(linear.name);
      }
    }
    config["quantization_config"] = target.quantization_config({planned}, ignored);
  }
};

TEST(SpqrReader, ReadsBackWhatWasWritten) {
  const SpqrArtefact artefact;
  const test::TemporaryFolder folder;
  artefact.write(folder.path());
  const ModelFolder opened = open_model_folder(folder.path());
  EXPECT_EQ(opened.schemes.at(kLinear), kScheme);
  EXPECT_EQ(opened.schemes.size(), 1u);
  const QuantizedTensor read = opened.read_quantized(kLinear);
  EXPECT_TRUE(read.codes.equal(artefact.tensor.codes));
  EXPECT_TRUE(read.scales.equal(artefact.tensor.scales));
  EXPECT_TRUE(read.zero_points.equal(artefact.tensor.zero_points));
  EXPECT_TRUE(read.group_index.equal(artefact.tensor.group_index));
  EXPECT_TRUE(read.outliers->columns.equal(artefact.tensor.outliers->columns));
  EXPECT_TRUE(read.outliers->values.equal(artefact.tensor.outliers->values));
  EXPECT_TRUE(opened.weights->load(std::string(kLinear) + ".weight").equal(artefact.tensor.dequantize()));
}

TEST(SpqrReader, RefusesWhatNoWriterMakes) {
  const std::string name = kLinear;
  struct Case {
    const char* expected;
    std::function<void(SpqrArtefact&)> corrupt;
  };
  const auto word = [&](const char* suffix, int64_t index, int64_t value) {
    return [=](SpqrArtefact& a) { a.tensors[name + suffix][index] = value; };
  };
  const auto flip = [&](SpqrArtefact& a, int bit) {
    a.tensors[name + ".dense_weights"][5].bitwise_xor_(int64_t{1} << bit);
  };
  const auto key = [&](const char* what, nlohmann::json value) {
    return [=](SpqrArtefact& a) { a.config["quantization_config"][what] = value; };
  };
  const std::vector<Case> cases = {
      {"copies of a tile's second level differ", [&](SpqrArtefact& a) { flip(a, 54); }},
      {"spare bits are set", [&](SpqrArtefact& a) { flip(a, 62); }},
      {"second level is not finite",
       [&](SpqrArtefact& a) {
         a.tensor.second_level->scale_scales[0][0] = HUGE_VAL;
         for (const auto& [n, packed] : spqr_target().pack(kLinear, a.tensor)) a.tensors[n] = packed;
       }},
      {"offsets that rise from 0", word(".row_offsets", 0, 1)},
      {"offsets that rise from 0", word(".row_offsets", 50, 1 << 20)},
      {"offsets that rise from 0", word(".row_offsets", 96, 0)},
      {"columns 0 to 63", word(".col_vals", 0, 64)},
      {"columns 0 to 63", word(".col_vals", 0, 0xffff)},
      {"finite values", word(".col_vals", 0, 0x7c000001)},
      {"each of the numbers 0 to 63 once", word(".in_perm", 3, 0)},
      {"quantization_config.bits: expected 3", key("bits", 4)},
      {"quantization_config.beta1: expected 16", key("beta1", "16")},
      {"quantization_config.shapes: expected an object", key("shapes", nullptr)},
      {"no length of", key("shapes", nlohmann::json::object())},
      {"says otherwise", key("modules_to_not_convert", nlohmann::json::array())},
      {"not expected beside",
       [&](SpqrArtefact& a) { a.tensors[name + ".bias"] = at::zeros({96}, at::kHalf); }},
      {"not ptcsr", [&](SpqrArtefact& a) { a.tensors[name + ".row_offsets"] = at::zeros({7}, at::kInt); }},
      {"is missing", [&](SpqrArtefact& a) { a.tensors.erase(name + ".in_perm"); }},
      {"expected I64",
       [&](SpqrArtefact& a) { a.tensors[name + ".dense_weights"] = at::zeros({384}, at::kInt); }},
  };
  for (const Case& each : cases) {
    SCOPED_TRACE(each.expected);
    SpqrArtefact artefact;
    each.corrupt(artefact);
    const test::TemporaryFolder folder;
    artefact.write(folder.path());
    try {
      open_model_folder(folder.path()).weights->load(name + ".weight");
      ADD_FAILURE() << "was read";
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), HasSubstr(each.expected));
    }
  }
}

}  // namespace
}  // namespace lathe
