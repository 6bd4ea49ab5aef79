// What was measured of groups, in Markdown, from figures that are added up by hand.
#include "lib/report/sensitivity_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lathe {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

json loss(size_t candidate, const json& kl, const json& fisher) {
  return {{"candidate", candidate},
          {"kl", kl},
          {"fisher", fisher},
          {"output_error", 0.25},
          {"weight_error", 0.5}};
}

json correlations(const json& fisher) {
  return {{"fisher", fisher},
          {"output_error", nullptr},
          {"output_relative_error", 0.5},
          {"weight_relative_mse", -0.5}};
}

/// Two groups of linears and a table under one candidate each.
json rules_section() {
  return {
      {"loss", "kl"},
      {"held_out_tokens", 512},
      {"checked_tokens", nullptr},
      {"candidates", {"int4 | rtn", "int8, rtn"}},
      {"rank_correlation",
       {{"all", correlations(0.975)},
        {"by_candidate", {correlations(nullptr), correlations(nullptr)}},
        {"pairs", {{"all", 2}, {"by_candidate", {1, 1}}}}}},
      {"groups",
       {{{"name", "l.0 mlp_in"},
         {"block", 0},
         {"role", "gate_proj/up_proj"},
         {"losses", {loss(0, 0.25, 0.3)}}},
        {{"name", "l.0 mlp_mid"}, {"block", 0}, {"role", "down_proj"}, {"losses", {loss(1, 0.125, 0.1)}}},
        {{"name", "embed"}, {"block", nullptr}, {"role", "embed"}, {"losses", {loss(1, 0.5, nullptr)}}}}}};
}

Report report_of(json section) {
  Report report;
  report.model = {"models/m", "llama", "F16", 2, 4'000'000};
  report.environment = {"0.1.0", "g++ 12", "cpu", "F32", 2, "MKL"};
  report.totals = {100, 50, 10, 4, 4};
  report.sensitivity = std::move(section);
  return report;
}

TEST(SensitivityText, OfRulesItsSumIsWhatIsPredicted) {
  Report report = report_of(rules_section());
  EXPECT_EQ(
      prediction_text(report),
      "predicted KL 0.875 (measured on 512 tokens held out); rank correlation with the measured KL: fisher "
      "0.97, output_relative_error 0.50, weight_relative_mse -0.50 (2 pairs)");
  EXPECT_THAT(to_markdown(report, ""),
              AllOf(HasSubstr("| sensitivity | predicted KL 0.875 "), HasSubstr("\n## Sensitivity\n")));
  EXPECT_THAT(to_terminal(report), HasSubstr("sensitivity   predicted KL 0.875 "));
  // Where the estimate decides, the table alone has what was measured.
  report.sensitivity["loss"] = "fisher";
  report.evaluation = {"eval.txt", 512, 10220, 20.0, 21.0, 0.9, 0.011, 0.13, 0.898};
  EXPECT_THAT(
      prediction_text(report),
      StartsWith(
          "predicted KL 0.9 (estimated from gradients on 512 tokens held out), 0.9 on the evaluation's"));
  report.budget = {{"chosen", {{"kl", 0.25}}}};
  EXPECT_THAT(to_terminal(report), HasSubstr("mixture       predicted KL 0.25 "));
  report.sensitivity = report.budget = nullptr;
  EXPECT_THAT(to_markdown(report, ""), AllOf(Not(HasSubstr("predicted")), Not(HasSubstr("## Sensitivity"))));
}

TEST(SensitivityText, HasCorrelationsAndEveryGroup) {
  json section = rules_section();
  const std::string text = sensitivity_markdown(section);
  EXPECT_THAT(
      text, AllOf(HasSubstr("KL measured on 512 tokens held out"), HasSubstr("The sum over groups, 0.875,")));
  EXPECT_THAT(text, AllOf(HasSubstr("| all | 2 | -0.5 | 0.5 | - | 0.975 |\n"),
                          HasSubstr("| int4 \\| rtn | 1 | -0.5 | 0.5 | - | - |\n")));
  EXPECT_THAT(
      text, AllOf(HasSubstr("| l.0 mlp_in | gate_proj/up_proj | int4 \\| rtn | 0.25 | 0.3 | 0.25 | 0.5 |\n"),
                  HasSubstr("| embed | embed | int8, rtn | 0.5 | - | 0.25 | 0.5 |\n")));
  section["loss"] = "fisher";
  section["checked_tokens"] = 128;
  section["groups"][0]["losses"].push_back(loss(1, nullptr, 0.01));
  const std::string estimated = sensitivity_markdown(section);
  EXPECT_THAT(estimated, AllOf(HasSubstr("estimated from gradients on 512 tokens"),
                               HasSubstr("on 128 of them, to check"), Not(HasSubstr("The sum over groups"))));
  section["rank_correlation"]["pairs"]["all"] = 0;
  section["checked_tokens"] = nullptr;
  EXPECT_THAT(sensitivity_markdown(section), AllOf(Not(HasSubstr("Spearman")), Not(HasSubstr("to check"))));
}

TEST(SensitivityText, HasLinearsThatWereMeasuredAlone) {
  json section = rules_section();
  EXPECT_THAT(sensitivity_markdown(section), Not(HasSubstr("alone")));
  section["groups"][0]["losses"][0]["linears"] = {
      {{"name", "l.0.gate"}, {"kl", 0.125}, {"fisher", 0.1}, {"output_error", 0.5}},
      {{"name", "l.0.up|"}, {"kl", 0.0625}, {"fisher", nullptr}, {"output_error", 0.25}}};
  section["rank_correlation"]["linears"] = {
      {"fisher", 0.75}, {"output_error", nullptr}, {"output_relative_error", 0.5}};
  section["rank_correlation"]["pairs"]["linears"] = 2;
  EXPECT_THAT(sensitivity_markdown(section),
              AllOf(HasSubstr("| each linear alone | 2 | - | 0.5 | - | 0.75 |\n"),
                    HasSubstr("| l.0.gate | int4 \\| rtn | 0.125 | 0.1 | 0.5 |\n"),
                    HasSubstr("| l.0.up\\| | int4 \\| rtn | 0.0625 | - | 0.25 |\n")));
}

// A long table is for those who look for something: the worst are what people read.
TEST(SensitivityText, TellsTheWorstFirstAndFoldsTheRest) {
  json section = rules_section();
  const std::string few = sensitivity_markdown(section);
  EXPECT_LT(few.find("| embed | embed |"), few.find("| l.0 mlp_in |"));  // 0.5, 0.25 and 0.125
  EXPECT_LT(few.find("| l.0 mlp_in |"), few.find("| l.0 mlp_mid |"));
  EXPECT_THAT(few, Not(HasSubstr("<details>")));
  const json last = section["groups"].back();
  for (int i = 0; i < 30; ++i) section["groups"].push_back(last);
  const size_t groups = section["groups"].size();
  EXPECT_THAT(
      sensitivity_markdown(section),
      AllOf(HasSubstr("<details><summary>" + std::to_string(groups - 20) + " more</summary>\n\n| group |"),
            HasSubstr("\n</details>\n")));
}

TEST(SensitivityText, HasADocumentOfItsOwn) {
  Report report = report_of(rules_section());
  report.model.path = "models/a|b";
  report.stages = {{"measure sensitivity", 12.25}};
  report.environment.threads = 1;
  report.calibration.rows = 128;
  report.calibration.seq_len = 512;
  report.memory.planned_ram = 3 << 20;
  report.warnings = {"other formats round otherwise"};
  EXPECT_THAT(
      sensitivity_document(report),
      AllOf(StartsWith("# Sensitivity\n"),
            HasSubstr("| model | models/a\\|b (llama, 2 blocks, 4.0 M parameters) |\n"),
            HasSubstr("| measure sensitivity | 12.2 s |\n"), HasSubstr(", 1 thread |\n"),
            HasSubstr("| samples | 128 of 512 tokens, those held out among them |\n"),
            HasSubstr(", planned at most 3.0 MiB |\n"), HasSubstr("- other formats round otherwise\n"),
            HasSubstr("| l.0 mlp_mid | down_proj | int8, rtn | 0.125 | 0.1 |")));
}

}  // namespace
}  // namespace lathe
