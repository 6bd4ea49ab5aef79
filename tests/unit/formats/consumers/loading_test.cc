// Who loads an artefact as a whole, and which ways of loading it are told.
#include "formats/consumers/loading.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/targets/target.h"

namespace lathe {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kText = R"(With vLLM:

    vllm serve this/folder

With GPTQModel, on any device:

    from gptqmodel import GPTQModel
)";

ConsumerVerdict reads(const char* consumer, const char* linears = "") {
  return {consumer, "a kernel", linears, {}, "", "a source"};
}
ConsumerVerdict refuses(const char* consumer, const char* linears = "") {
  return {consumer, "", linears, {}, "no kernel", "a source"};
}

TEST(WaysToLoad, AreAllWhereAllConsumersLoadAllOrNobodyIsJudged) {
  EXPECT_EQ(ways_to_load(kText, {}), kText);
  EXPECT_EQ(ways_to_load(kText, {reads("vLLM"), reads("GPTQModel")}), kText);
  EXPECT_EQ(ways_to_load("In some library's linears.\n", {refuses("vLLM")}), "In some library's linears.\n");
}

TEST(WaysToLoad, LeaveOutWhoDoesNotReadEverySchemeOfAMixture) {
  // vLLM has a kernel for one of the two kinds; a reader's verdict is about all linears at once.
  const std::vector<ConsumerVerdict> verdicts = {reads("vLLM", "int4"), refuses("vLLM", "int3"),
                                                 reads("GPTQModel")};
  EXPECT_THAT(loading_consumers(verdicts), testing::ElementsAre("GPTQModel"));
  EXPECT_THAT(ways_to_load(kText, verdicts),
              AllOf(Not(HasSubstr("vllm serve")), HasSubstr("With GPTQModel, on any device:"),
                    HasSubstr("\n\nvLLM does not load all of it (why: \"What consumers make of it\")")));
  // A kind that it says nothing about is none that it reads.
  EXPECT_THAT(ways_to_load(kText, {reads("vLLM", "int4"), reads("SGLang", "int3"), reads("GPTQModel")}),
              Not(HasSubstr("vllm serve")));
}

TEST(WaysToLoad, SayWhenNobodyLoadsAllOfIt) {
  const std::string text = ways_to_load(kText, {refuses("vLLM"), refuses("GPTQModel")});
  EXPECT_THAT(text, AllOf(HasSubstr("No server whose rules Lathe knows loads all of it"),
                          HasSubstr("vLLM and GPTQModel do not load all of it"), Not(HasSubstr("With "))));
}

TEST(WaysToLoad, NameTheFormOfAServerThatAloneDoes) {
  // What "vLLM" runs, "vLLM with humming" does, too, but not the other way round.
  const std::string text = ways_to_load(kText, {reads("vLLM", "int4"), refuses("vLLM", "int3"),
                                                reads("vLLM with humming", "int3"), reads("GPTQModel")});
  EXPECT_THAT(text, AllOf(HasSubstr("With vLLM with humming only:"), HasSubstr("vllm serve"),
                          Not(HasSubstr("not load all"))));
}

TEST(WaysToLoad, ADegreeOfParallelismThatFailsLeavesTheOthers) {
  ConsumerVerdict partly = reads("vLLM");
  partly.tensor_parallel = {1, 2};
  partly.problem = "TP 4 fails";
  EXPECT_THAT(loading_consumers({partly}), Contains("vLLM"));
  partly.tensor_parallel.clear();
  EXPECT_THAT(loading_consumers({partly}), Not(Contains("vLLM")));
}

/// Each consumer that a target's text names in its ways is one that is judged: else a refusal would be lost.
TEST(WaysToLoad, OfEveryTargetBeginWithANameThatIsJudged) {
  for (const Target& target : targets()) {
    if (target.name == "hqq" || target.name == "spqr") continue;  // libraries, by hand
    PlannedLinear linear;
    linear.scheme.bits = 13;  // of which nobody has heard
    std::vector<ConsumerVerdict> verdicts = target.gguf != nullptr
                                                ? judge_gguf({{"a", GgmlType::Q4_K}})
                                                : judge_consumers(target.name, {linear}, {1, 1, 1});
    for (ConsumerVerdict& verdict : verdicts) verdict.kernel.clear();
    EXPECT_THAT(ways_to_load(target.how_to_load, verdicts), Not(HasSubstr("With "))) << target.name;
  }
}

/// Libraries without a loader of their own: the code puts every linear into a model (its peers' tests run
/// it).
TEST(WaysToLoad, OfLibrariesGiveTheWholeModel) {
  for (const char* name : {"hqq", "spqr"}) {
    const std::string& text = find_target(name).how_to_load;
    EXPECT_THAT(text, AllOf(HasSubstr("    model = AutoModelForCausalLM.from_config("),
                            HasSubstr("    for name in "), HasSubstr("        model.set_submodule(name, "),
                            HasSubstr("    tokenizer = AutoTokenizer.from_pretrained(folder)")))
        << name;
  }
}

/// Every consumer that reads an ordinary GGUF file has its way.
TEST(WaysToLoad, OfGgufFilesAreThoseOfAllReaders) {
  const std::vector<ConsumerVerdict> verdicts = judge_gguf({{"a", GgmlType::Q4_K}});
  const std::string text = ways_to_load(find_target("gguf:Q4_K_M").how_to_load, verdicts);
  for (const std::string& consumer : loading_consumers(verdicts))
    EXPECT_THAT(text, HasSubstr("With " + consumer)) << consumer;
  EXPECT_THAT(ways_to_load(find_target("gguf:TQ2_0").how_to_load, judge_gguf({{"a", GgmlType::TQ2_0}})),
              AllOf(HasSubstr("With llama.cpp"), HasSubstr("With transformers"),
                    Not(HasSubstr("With SGLang")), HasSubstr("vLLM and SGLang do not load all of it")));
}

}  // namespace
}  // namespace lathe
