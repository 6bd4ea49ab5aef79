// The model card: what it says, and whose words it keeps.
#include "lib/report/model_card.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lathe {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

Report small_report() {
  Report report;
  report.recipe = {{"rules", {{{"solver", "gptq"}}}}, {"output", {{"path", "somewhere/of/mine/out"}}}};
  report.model.path = "somewhere/of/mine/models/Tiny-1B/";
  report.environment.version = "0.1";
  report.totals = {2 << 20, 1 << 20, 1000, 4.125, 5.5, 0, 0};
  for (const char* name : {"a", "b"}) {
    Report::LinearRow row;
    row.name = name;
    row.scheme = "int4 sym g128";
    row.solver = "gptq";
    row.bits_per_weight = 4.125;
    report.linears.push_back(row);
  }
  report.kept = {{"lm_head", "ignored"}};
  return report;
}

TEST(ModelCard, SaysWhatWasDoneAndHowToLoadIt) {
  Report report = small_report();
  report.evaluation = Report::Evaluation{"data/text.txt", 512, 4096, 20.5, 21.25, 0.01, 0.005, 0.2, 0.975};
  const std::string card = model_card(report, "compressed-tensors", "With vLLM.\n", {"vLLM: fine"}, "");
  EXPECT_THAT(card, StartsWith("---\nbase_model: \"Tiny-1B\"\n"));
  EXPECT_THAT(card, HasSubstr("# Tiny-1B, quantised"));
  EXPECT_THAT(card, HasSubstr("1.0 MiB instead of 2.0 MiB, 4.125 bits"));
  EXPECT_THAT(card, HasSubstr("| int4 sym g128 | gptq | 2 | 4.125 |"));
  EXPECT_THAT(card, HasSubstr("| perplexity | 20.5000 | 21.2500 |"));
  EXPECT_THAT(card, HasSubstr("mean 0.01000"));
  EXPECT_THAT(card, HasSubstr("With vLLM."));
  EXPECT_THAT(card, HasSubstr("- vLLM: fine"));
  EXPECT_THAT(card, HasSubstr("\"solver\": \"gptq\""));
  EXPECT_THAT(card, Not(HasSubstr("somewhere")));  // nothing of the machine
}

TEST(ModelCard, KeepsTheBaseModelsWordsAndItsLicence) {
  const std::string base = "---\nlicense: apache-2.0\ntags: [x]\n---\n# Tiny\nlicense: not this line\n";
  const std::string card = model_card(small_report(), "awq", "", {}, base);
  EXPECT_THAT(
      card,
      HasSubstr("base_model_relation: quantized\nlicense: apache-2.0\ntags:\n- lathe\n- awq\n- x\n---"));
  EXPECT_THAT(card, HasSubstr("## Card of the base model\n\n" + base));
  EXPECT_THAT(card, HasSubstr("Not measured"));
  EXPECT_THAT(model_card(small_report(), "awq", "", {}, "---"), HasSubstr("## Card of the base model"));
}

TEST(ModelCard, CarriesWhatTheHubKnowsOfTheBaseModel) {
  const auto front = [](const std::string& base) {
    const std::string card = model_card(small_report(), "gptq", "", {}, base);
    return card.substr(0, card.find("\n---\n") + 5);
  };
  EXPECT_EQ(
      front("---\nlicense: other\nlicense_name: tiny\nlanguage:\n- en\n- de\ntags:\n  - chat\n"
            "  - lathe\nbase_model: org/Tiny-1B-Base\npipeline_tag: text-generation\n---\n# Tiny\n"),
      "---\nbase_model:\n- \"Tiny-1B\"\n- org/Tiny-1B-Base\nbase_model_relation: quantized\n"
      "license: other\nlicense_name: tiny\nlanguage:\n- en\n- de\ntags:\n- lathe\n- gptq\n- chat\n---\n");
  EXPECT_EQ(front("---\r\nlanguage: en\r\nbase_model: [a/b, \"c\"]\r\n---\r\n"),
            "---\nbase_model:\n- \"Tiny-1B\"\n- a/b\n- \"c\"\nbase_model_relation: quantized\nlanguage: en\n"
            "tags:\n- lathe\n- gptq\n---\n");
  EXPECT_EQ(front("---\nlicense: mit\nno end"), front(""));
}

TEST(ModelCard, OfAConversionKeepsTheFrontMatterInFront) {
  const Conversion awq{"awq", "With AutoAWQ.\n", {"vLLM: fine"}, {"awq", "gptq"}};
  const std::string card = converted_card(awq, "---\nlicense: mit\n---\n# Tiny\n");
  EXPECT_THAT(card, StartsWith("---\nlicense: mit\ntags:\n- lathe\n- awq\n---\n\n# Converted to awq"));
  EXPECT_THAT(card, HasSubstr("With AutoAWQ."));
  EXPECT_THAT(card, HasSubstr("## What consumers make of it\n\n- vLLM: fine\n"));
  EXPECT_THAT(card, HasSubstr("(its format is another)\n\n# Tiny\n"));
  EXPECT_THAT(converted_card(awq, ""), StartsWith("---\ntags:\n- lathe\n- awq\n---\n\n# Converted to awq"));
  EXPECT_THAT(converted_card(awq, "---\nunfinished"), HasSubstr("\n\n---\nunfinished"));
}

TEST(ModelCard, OfAConversionIsTaggedWithTheNewFormatAlone) {
  const Conversion awq{"awq", "", {}, {"awq", "gptq"}};
  const std::string ours = model_card(small_report(), "gptq", "", {}, "---\nlicense: mit\n---\n");
  EXPECT_THAT(converted_card(awq, ours), StartsWith("---\nbase_model: \"Tiny-1B\"\n"
                                                    "base_model_relation: quantized\nlicense: mit\n"
                                                    "tags:\n- lathe\n- awq\n---\n"));
  EXPECT_THAT(converted_card(awq, "---\ntags:\n  - chat\n  - gptq\nlanguage:\n- gptq\n---\n"),
              StartsWith("---\ntags:\n  - lathe\n  - awq\n  - chat\nlanguage:\n- gptq\n---\n"));
  EXPECT_THAT(converted_card(awq, "---\ntags: [chat]\n---\n"),
              StartsWith("---\ntags: [lathe, awq, chat]\n---\n"));
}

}  // namespace
}  // namespace lathe
