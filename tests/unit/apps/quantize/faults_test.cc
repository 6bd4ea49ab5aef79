// The table of faults: each artefact that a real run left is broken in one place, the manifest hashed along
// (as if the fault had come before it), and looked at three times: as at the end of the run that made it,
// later with the model as reference, and later alone. A row says which check names which place; an empty
// name: that look can't see it, which is expected, too. With the manifest as the run wrote it every fault is
// seen.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "apps/quantize/manifest.h"
#include "apps/quantize/output_check.h"
#include "apps/quantize/verify.h"
#include "lib/model/forward.h"
#include "recipes/recipe.h"
#include "tests/unit/apps/quantize/faults.h"

namespace lathe {
namespace {

using test::Artefacts;
using test::edit_json;
using test::Fault;
using test::Json;
using test::TemporaryFolder;
namespace fs = std::filesystem;

/// What the solvers of an artefact's run meant, read from the whole one.
WrittenTensors meant_by(const fs::path& folder, const ModelFolder& model) {
  const ModelFolder whole = open_model_folder(folder, model.graph);
  WrittenTensors written;
  for (const auto& [linear, scheme] : whole.schemes) written.note(linear, whole.read_quantized(linear));
  for (const Block& block : model.graph.blocks) {
    const std::string attention = attention_module(block);
    if (const auto cache = whole.weights->kv_cache(attention)) written.note(attention, *cache);
  }
  BlockOutcome folds;
  for (const auto& [name, info] : whole.checkpoint->tensors()) {
    const bool packed = name.ends_with(".weight") && whole.schemes.contains(name.substr(0, name.rfind('.')));
    if (!model.checkpoint->contains(name) || packed) continue;
    const at::Tensor values = whole.weights->load(name);
    if (!values.equal(model.weights->load(name))) folds.changed[name] = values;
  }
  written.note(model.graph, folds);
  return written;
}

/// What a run knew at its end.
struct RunEnd {
  Recipe recipe;
  Plan plan;
  const OutputPlan* output;
  WrittenTensors written;

  RunEnd(const fs::path& whole, const ModelFolder& model)
      : recipe(parse_recipe(test::json_of(whole / "manifest.json").at("recipe").dump(), "recipe", {},
                            registered_vocabulary())),
        plan(make_plan(recipe, model.graph, model.checkpoint->tensors())),
        output(output_of(open_model_folder(whole, model.graph), plan, model.graph)),
        written(meant_by(whole, model)) {}
};

/// The run's look.
Findings look_of_run(const fs::path& broken, const fs::path& whole, const ModelFolder& model) {
  static std::map<fs::path, std::unique_ptr<RunEnd>> ends;
  std::unique_ptr<RunEnd>& end = ends[whole];
  if (!end) end = std::make_unique<RunEnd>(whole, model);
  return check_written(broken, end->plan, *end->output, model, end->written, !end->recipe.transforms.empty());
}

/// As if the fault had come before the manifest was written.
void hash_along(const fs::path& folder) {
  edit_json(folder / "manifest.json", [&](Json& manifest) {
    const FileHashes hashes = hash_files(folder);
    manifest["files"] = hashes.files;
    manifest["reports"] = hashes.reports;
    manifest.erase("tensors");
  });
}

bool names(const Findings& findings, const std::string& check, const std::string& places) {
  const size_t bar = places.find('|');
  if (bar != std::string::npos)
    return names(findings, check, places.substr(0, bar)) || names(findings, check, places.substr(bar + 1));
  return std::ranges::any_of(findings, [&](const Finding& finding) {
    return finding.check == check && finding.text().find(places) != std::string::npos;
  });
}
std::string texts(const Findings& findings) {
  std::string all;
  for (const Finding& finding : findings) all += "  " + finding.text() + "\n";
  return all.empty() ? "  nothing\n" : all;
}

class FaultTable : public testing::TestWithParam<Fault> {};

TEST_P(FaultTable, AreSeenAndNamed) {
  const Fault& fault = GetParam();
  const Artefacts& all = Artefacts::get();
  const std::string name = fault.artefact;
  const fs::path whole = all.folder(name);
  const ModelFolder& model = all.model(name);
  const TemporaryFolder scratch;
  const fs::path broken = scratch.path() / "artefact";
  fs::copy(whole, broken, fs::copy_options::recursive);
  fault.inject(broken);
  const auto expect = [&](const char* look, const std::string& check, const Findings& findings) {
    if (check.empty()) {
      EXPECT_TRUE(findings.empty()) << look << " sees more than the table says:\n" << texts(findings);
    } else {
      EXPECT_TRUE(names(findings, check, fault.place))
          << look << ": no " << check << " of " << fault.place << ":\n"
          << texts(findings);
    }
  };
  const Findings with_manifest = verify_folder(broken, nullptr).verified.findings;
  EXPECT_TRUE(std::ranges::any_of(with_manifest, [](const Finding& f) { return f.check == check::manifest; }))
      << texts(with_manifest);
  hash_along(broken);
  if (fault.run != std::string("-")) expect("the run", fault.run, look_of_run(broken, whole, model));
  expect("with the model", fault.reference, verify_folder(broken, &model).verified.findings);
  expect("alone", fault.alone, verify_folder(broken, nullptr).verified.findings);
}

INSTANTIATE_TEST_SUITE_P(Packed, FaultTable, testing::ValuesIn(test::packed_faults()));
INSTANTIATE_TEST_SUITE_P(Config, FaultTable, testing::ValuesIn(test::config_faults()));
INSTANTIATE_TEST_SUITE_P(Files, FaultTable, testing::ValuesIn(test::file_faults()));
INSTANTIATE_TEST_SUITE_P(Gptq, FaultTable, testing::ValuesIn(test::gptq_faults()));
INSTANTIATE_TEST_SUITE_P(Others, FaultTable, testing::ValuesIn(test::other_faults()));
INSTANTIATE_TEST_SUITE_P(Gguf, FaultTable, testing::ValuesIn(test::gguf_faults()));

TEST(Faults, FoldsThatTheRunItselfGotWrong) {
  const Artefacts& all = Artefacts::get();
  const ModelFolder& model = all.model("folded");
  const TemporaryFolder scratch;
  const fs::path wrong = scratch.path() / "artefact";
  fs::copy(all.folder("folded"), wrong, fs::copy_options::recursive);
  const std::string norm = "model.layers.1.input_layernorm.weight";
  test::edit_tensors(wrong, [&](test::Tensors& tensors) {
    tensors.at(norm) = model.weights->load(norm).to(tensors.at(norm).scalar_type());
  });
  // What is on the disk is what was meant.
  const Findings found = look_of_run(wrong, wrong, model);
  EXPECT_TRUE(names(found, check::folded, norm)) << texts(found);
}

TEST(WholeArtefacts, PassEveryLook) {
  const Artefacts& all = Artefacts::get();
  for (const std::string name :
       {"words/compressed-tensors", "words/gptq-v2", "words/awq", "symmetric/gptq", "symmetric/modelopt",
        "hqq", "spqr", "floats/compressed-tensors", "floats/modelopt", "gguf", "shards", "experts", "folded",
        "gguf_folded", "static", "nvfp4", "biased"}) {
    const fs::path folder = all.folder(name);
    const ModelFolder& model = all.model(name);
    if (!name.starts_with("gguf")) {
      EXPECT_EQ(texts(look_of_run(folder, folder, model)), "  nothing\n") << name;
    }
    for (const ModelFolder* reference : {&model, static_cast<const ModelFolder*>(nullptr)}) {
      const Verdict verdict = verify_folder(folder, reference);
      EXPECT_EQ(texts(verdict.verified.findings), "  nothing\n") << name;
      EXPECT_GT(verdict.checks.size(), 4u) << name;
      if (reference != nullptr) {
        EXPECT_GT(verdict.verified.distances.size(), 6u) << name;
      }
    }
  }
}

}  // namespace
}  // namespace lathe
