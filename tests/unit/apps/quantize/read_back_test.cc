// The read-back check is silent on what was meant, and names the linear whose codes, scales or zero points
// were changed.
#include "apps/quantize/read_back.h"

#include <gtest/gtest.h>

#include "lib/base/error.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

const Scheme kScheme{.type = "int", .bits = 4, .group_size = 32, .symmetric = false};

BlockOutcome outcome_of(const test::Artefact& artefact, size_t index) {
  BlockOutcome outcome;
  outcome.index = index;
  for (const Linear& linear : artefact.graph.blocks[index].linears) {
    LinearOutcome& result = outcome.linears.emplace_back();
    result.linear = &linear;
    result.quantized = artefact.quantized.at(linear.name);
  }
  return outcome;
}

/// The message of the check after `damage` was done to the tensors on disk; empty where it passed.
std::string verdict(const std::function<void(test::Artefact&)>& damage) {
  test::Artefact artefact;
  artefact.pack([](const Linear&) { return kScheme; });
  WrittenTensors meant;
  for (size_t b = 0; b < artefact.graph.blocks.size(); ++b)
    meant.note(artefact.graph, outcome_of(artefact, b));
  damage(artefact);
  const test::TemporaryFolder folder;
  artefact.write(folder.path());
  try {
    require_none(meant.compare(open_model_folder(folder.path())));
  } catch (const CheckFailed& failure) {
    return failure.what();
  }
  return {};
}

TEST(ReadBack, SilentOnWhatWasMeant) {
  EXPECT_EQ(verdict([](test::Artefact&) {}), "");
}

TEST(ReadBack, NamesTheLinearThatWasChanged) {
  const std::string linear = "model.layers.1.mlp.up_proj";
  const auto flip = [&](const std::string& part, int64_t bit) {
    return verdict([&](test::Artefact& artefact) {
      at::Tensor& tensor = artefact.tensors.at(linear + part);
      tensor = tensor.clone();
      static_cast<uint8_t*>(tensor.data_ptr())[0] ^= static_cast<uint8_t>(1 << bit);
    });
  };
  for (const std::string part : {".weight_packed", ".weight_scale", ".weight_zero_point"}) {
    for (const int64_t bit : {0, 5})
      EXPECT_NE(flip(part, bit).find(linear), std::string::npos) << part << " bit " << bit;
  }
}

}  // namespace
}  // namespace lathe
