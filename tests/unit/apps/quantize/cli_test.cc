// Command lines, good and bad.
#include "apps/quantize/cli.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/error.h"

namespace lathe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Command parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "quantize");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

TEST(Cli, ReadsARun) {
  const auto run = std::get<RunRequest>(parse({"--recipe",
                                               "r.yaml",
                                               "--model",
                                               "m",
                                               "--calib",
                                               "a.txt",
                                               "--calib",
                                               "b.jsonl",
                                               "--output",
                                               "o",
                                               "--device",
                                               "cuda:1",
                                               "--dump-ids",
                                               "ids.npy",
                                               "--compute-dtype",
                                               "f32",
                                               "--threads",
                                               "3",
                                               "--max-ram",
                                               "4GiB",
                                               "--max-disk=0",
                                               "--work",
                                               "w",
                                               "--set",
                                               "rules[0].scheme.bits=3",
                                               "--set=ignore=[lm_head]",
                                               "--dry-run",
                                               "--quiet",
                                               "--no-journal",
                                               "--overwrite"}));
  EXPECT_EQ(run.recipe, "r.yaml");
  EXPECT_EQ(run.model, "m");
  EXPECT_THAT(run.calib, ElementsAre("a.txt", "b.jsonl"));
  EXPECT_EQ(run.output, "o");
  EXPECT_EQ(run.dump_ids, "ids.npy");
  EXPECT_EQ(run.device, "cuda:1");
  EXPECT_EQ(run.compute_dtype, "f32");
  EXPECT_EQ(run.threads, 3);
  EXPECT_EQ(run.memory.ram, uint64_t{4} << 30);
  EXPECT_EQ(run.memory.vram, std::nullopt);
  EXPECT_EQ(run.memory.disk, 0u);
  EXPECT_EQ(run.memory.work, "w");
  EXPECT_THAT(run.sets, ElementsAre("rules[0].scheme.bits=3", "ignore=[lm_head]"));
  EXPECT_TRUE(run.dry_run && run.quiet && run.overwrite && run.no_journal && !run.resume);
}

TEST(Cli, ARunNeedsOnlyARecipe) {
  const auto run = std::get<RunRequest>(parse({"--recipe", "r.yaml"}));
  EXPECT_FALSE(run.model || run.output || run.dump_ids);
  EXPECT_EQ(run.device, "auto");
  EXPECT_EQ(run.compute_dtype, "auto");
  EXPECT_EQ(run.threads, 0);
  EXPECT_FALSE(run.dry_run || run.quiet || run.overwrite || run.no_journal || run.resume ||
               run.journal_every);
}

TEST(Cli, ReadsTheOtherCommands) {
  const auto eval = std::get<EvalRequest>(
      parse({"eval", "--model", "m", "--reference", "f", "--text", "t.txt", "--ctx", "64", "--rows", "4",
             "--device", "cpu", "--compute-dtype", "bf16", "--threads", "2", "--json"}));
  EXPECT_EQ(eval.model, "m");
  EXPECT_EQ(eval.reference, "f");
  EXPECT_EQ(eval.text, "t.txt");
  EXPECT_EQ(eval.ctx, 64);
  EXPECT_EQ(eval.rows, 4);
  EXPECT_EQ(eval.device, "cpu");
  EXPECT_EQ(eval.compute_dtype, "bf16");
  EXPECT_TRUE(eval.json);
  const auto inspect = std::get<InspectRequest>(parse({"inspect", "folder", "--json"}));
  EXPECT_EQ(inspect.folder, "folder");
  EXPECT_TRUE(inspect.json);
  EXPECT_FALSE(std::get<ListRequest>(parse({"list"})).json);
}

TEST(Cli, ReadsComparisonsAndRequestsForAdvice) {
  const auto compare = std::get<CompareRequest>(
      parse({"compare", "a",      "b",         "c",         "--reference", "f",         "--text",
             "t.txt",   "--rows", "4",         "--fail-if", "kl>0.05",     "--fail-if", "ppl_increase > 2%",
             "--junit", "j.xml",  "--max-ram", "1GiB",      "--examples",  "0"}));
  EXPECT_THAT(compare.artefacts, ElementsAre("a", "b", "c"));
  EXPECT_EQ(compare.reference, "f");
  EXPECT_EQ(compare.text, "t.txt");
  EXPECT_EQ(compare.rows, 4);
  EXPECT_EQ(compare.ctx, 512);
  EXPECT_EQ(compare.examples, 0);
  EXPECT_THAT(compare.fail_if, ElementsAre("kl>0.05", "ppl_increase > 2%"));
  EXPECT_EQ(compare.junit, "j.xml");
  EXPECT_EQ(compare.memory.ram, uint64_t{1} << 30);
  const auto advise =
      std::get<AdviseRequest>(parse({"advise", "--model", "m", "--gpu", "RTX 4000 Ada", "--batch", "8"}));
  EXPECT_EQ(advise.gpu, "RTX 4000 Ada");
  EXPECT_FALSE(advise.vram);
  EXPECT_EQ(advise.context, 4096);
  EXPECT_EQ(advise.batch, 8);
  EXPECT_EQ(std::get<AdviseRequest>(parse({"advise", "--model", "m", "--vram", "20GiB"})).vram,
            uint64_t{20} << 30);
}

TEST(Cli, HelpAndVersionAreTexts) {
  EXPECT_THAT(std::get<PrintRequest>(parse({"--help"})).text, HasSubstr("--recipe"));
  EXPECT_THAT(std::get<PrintRequest>(parse({"eval", "--help"})).text, HasSubstr("--reference"));
  EXPECT_THAT(std::get<PrintRequest>(parse({"--version"})).text, HasSubstr("Lathe"));
}

struct BadLine {
  std::vector<const char*> arguments;
  const char* words;
};

TEST(Cli, RefusesInOneLineWithTheNearest) {
  const std::vector<BadLine> table = {
      {{}, "quantize --recipe FILE"},
      {{"--quiet"}, "quantize --recipe FILE"},
      {{"--recipe"}, "--recipe"},
      {{"--recipe", ""}, "--recipe"},
      {{"--recip", "r.yaml"}, "did you mean '--recipe'?"},
      {{"--recipe", "r.yaml", "--outptu=x"}, "unknown flag '--outptu'"},
      {{"--recipe", "r.yaml", "extra"}, "'extra'"},
      {{"--recipe", "a", "--recipe", "b"}, "--recipe"},
      {{"--recipe", "r.yaml", "--model", ""}, "--model: expected a folder"},
      {{"--recipe", "r.yaml", "--threads", "many"}, "--threads"},
      {{"--recipe", "r.yaml", "--threads", "-1"}, "from 0 to 1024"},
      {{"evl", "--model", "m"}, "did you mean 'eval'?"},
      {{"eval", "--text", "t"}, "--model DIR"},
      {{"eval", "--model", "m"}, "--text FILE"},
      {{"eval", "--model", "m", "--text", "t", "--ctx", "1"}, "--ctx: expected an integer from 2"},
      {{"eval", "--model", "m", "--text", "t", "--rows", "-2"}, "--rows"},
      {{"eval", "--model", "m", "--text", "t", "--rows", "9223372036854775807"},
       "--rows: expected an integer from 0"},
      {{"eval", "--model", "m", "--text", "t", "--jsn"}, "did you mean '--json'?"},
      {{"--quiet", "list"}, "--quiet comes after the command"},
      {{"--recipe", "r", "--dump-ids", ""}, "--dump-ids: expected a file, found an empty text"},
      {{"--recipe", "r", "--resume", "--no-journal"}, "--resume: has nothing to do beside --no-journal"},
      {{"--recipe", "r", "--resume", "--dry-run"}, "--resume: has nothing to do beside --dry-run"},
      {{"compare", "a", "--text", "t"},
       "expected two artefacts or more, or one with --reference DIR or --fail-if CONDITION, found 1"},
      {{"compare", "--reference", "f", "--text", "t"}, "found 0"},
      {{"compare", "a", "b"}, "--text FILE"},
      {{"compare", "a", "b", "--text", "t", "--examples", "-1"}, "--examples"},
      {{"compare", "a", "b", "--text", "t", "--fail-fi", "kl>1"}, "did you mean '--fail-if'?"},
      {{"advise", "--model", "m"}, "expected --gpu NAME or --vram SIZE, found neither"},
      {{"advise", "--model", "m", "--gpu", "L4", "--vram", "1GB"}, "found both"},
      {{"advise", "--model", "m", "--vram", "much"}, "--vram: expected a size"},
      {{"advise", "--model", "m", "--vram", "1GB", "--batch", "0"}, "--batch: expected an integer from 1"},
      {{"inspect"}, "DIR"},
      {{"inspect", "a", "b"}, "'b'"},
      {{"list", "all"}, "unexpected argument 'all'"},
      {{"--recipe", "r.yaml", "--calib", "a.txt", "b.txt"},
       "unexpected argument 'b.txt': --calib takes one value at a time; give `--calib b.txt`, too"},
      {{"sensitivity", "--recipe", "r.yaml", "--calib", "a.txt", "b.txt"}, "give `--calib b.txt`, too"},
      {{"--recipe", "r.yaml", "--set", "a=1", "b=2"}, "give `--set b=2`, too"},
      {{"--recipe", "r.yaml", "--calib", "a.txt", "evall"}, "unknown command 'evall'"},
  };
  for (const BadLine& row : table) {
    try {
      parse(row.arguments);
      ADD_FAILURE() << "accepted; expected " << row.words;
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), HasSubstr(row.words));
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace lathe
