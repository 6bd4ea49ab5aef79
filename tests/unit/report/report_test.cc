// The report's three faces, from one small report with known figures.
#include "lib/report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

namespace lathe {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

Report::LinearRow linear(const std::string& name, const std::string& role, double weight_error,
                         std::optional<double> output_error) {
  return {.name = name,
          .role = role,
          .scheme = "int4 sym g128",
          .solver = "rtn",
          .bits_per_weight = 4.125,
          .weight_relative_mse = weight_error,
          .output_relative_error = output_error,
          .ratio = {},
          .clipped = false,
          .seconds = 0.25,
          .events = {}};
}

Report small_report() {
  Report report;
  report.recipe = {{"rules", {{{"targets", {"linear"}}}}}};
  report.model = {"models/m", "llama", "F16", 2, 4'000'000};
  report.environment = {"0.1.0", "g++ 12", "cpu", "F32", 2, "MKL"};
  report.totals = {8'388'608, 2'621'440, 3'000'000, 4.125, 5.24288};
  report.calibration = {{"a.txt", "b.txt"}, 2, 70000, 136, 128, 512, "xxh3-128:00ff"};
  report.linears = {linear("l.0.q_proj", "q_proj", 0.01, 0.001234567),
                    linear("l.0.o_proj", "o_proj", 0.02, 0.5), linear("l.1.q_proj", "q_proj", 0.03, 0.003)};
  report.linears[1].ratio = 0.55;
  report.linears[1].clipped = true;
  report.linears[1].events = {"damping raised | twice\nto 2 %"};
  report.kept = {{"lm_head", "ignored by the recipe"}};
  report.folds = {{"awq", "l.0.norm", "attention_in", true, 0.55, 2.0, 1.5, ""},
                  {"awq", "l.0.v_proj", "attention_out", false, 0, 1.0, 1.0, "no scale lowers the loss"}};
  report.evaluation = {"eval.txt", 512, 10220, 20.0, 21.0, 0.0231, 0.011, 0.13, 0.898};
  report.stages = {{"read text", 0.5}, {"quantise", 12.25}};
  report.peak_rss = 3 * 1024 * 1024;
  return report;
}

/// Of a format that rounds by itself: no output error is known.
TEST(Report, TensorsOfAFileThatRounds) {
  Report report = small_report();
  for (Report::LinearRow& row : report.linears) {
    row.output_relative_error.reset();
    row.importance_weighted_error = 0.004;
  }
  report.tensors = {{"blk.0.attn_q.weight", "Q4_K", {64, 256}, 4.5, 0.006, 0.004},
                    {"token_embd.weight", "Q6_K", {320, 256}, 6.5625, 0.0002, std::nullopt}};
  const nlohmann::json json = to_json(report);
  EXPECT_EQ(json["linears"][0]["importance_weighted_error"], 0.004);
  EXPECT_EQ(json["tensors"][0]["shape"], nlohmann::json({64, 256}));
  EXPECT_EQ(json["tensors"][1]["weight_error"], 0.0002);
  EXPECT_TRUE(json["tensors"][1]["importance_weighted_error"].is_null());
  const std::string text = to_markdown(report, "");
  EXPECT_THAT(text, AllOf(HasSubstr("## Mean importance-weighted error by role"),
                          HasSubstr("| blk.0.attn_q.weight | Q4_K | 64 x 256 | 4.500 | 0.006 | 0.004 |"),
                          HasSubstr("| token_embd.weight | Q6_K | 320 x 256 | 6.562 | 0.0002 | - |")));
  EXPECT_THAT(to_terminal(report), HasSubstr("importance-weighted error by role"));
  for (Report::LinearRow& row : report.linears) row.importance_weighted_error.reset();
  EXPECT_THAT(to_terminal(report), HasSubstr("\nweight error by role"));
}

/// A mixture that was chosen from a long frontier.
TEST(Report, TheBudgetsFrontierIsATableOfAFewOfItsMixtures) {
  Report report = small_report();
  EXPECT_THAT(to_markdown(report, ""), Not(HasSubstr("## Budget")));
  const auto mixture = [](double bits, double kl) {
    return nlohmann::json{{"bits_per_weight", bits}, {"bytes", 1024 * 1024 * bits}, {"kl", kl}};
  };
  nlohmann::json frontier = nlohmann::json::array(), uniform = mixture(4.25, 0.0625);
  uniform["candidate"] = "int4 | rtn";
  for (int i = 0; i <= 30; ++i) frontier.push_back(mixture(3 + 0.1 * i, 0.5 - 0.01 * i));
  report.budget = {
      {"chosen", mixture(4, 0.125)},
      {"frontier", frontier},
      {"uniform", {uniform}},
      {"measured",
       {{"loss", "kl"}, {"held_out_tokens", 512}, {"rank_correlation", nlohmann::json::object()}}}};
  const std::string text = to_markdown(report, "");
  EXPECT_THAT(text, AllOf(HasSubstr("| chosen | 4.000 | 4.0 MiB | 0.125 |"),
                          HasSubstr("| all int4 \\| rtn | 4.250 | 4.2 MiB | 0.0625 |"),
                          HasSubstr("| frontier | 3.000 | 3.0 MiB | 0.5 |"),
                          HasSubstr("| frontier | 6.000 | 6.0 MiB | 0.2 |"),
                          HasSubstr("16 of the frontier's 31 mixtures")));
  report.budget["frontier"] = {mixture(4, 0.125)};
  EXPECT_THAT(to_markdown(report, ""),
              AllOf(HasSubstr("| frontier | 4.000 |"), Not(HasSubstr("mixtures, evenly"))));
  report.budget["frontier"] = nlohmann::json::array();
  EXPECT_THAT(to_markdown(report, ""), Not(HasSubstr("| frontier |")));
}

TEST(Report, SaysWhatStaticScalesClip) {
  Report report = small_report();
  EXPECT_THAT(to_terminal(report), Not(HasSubstr("static inputs")));
  EXPECT_TRUE(to_json(report)["linears"][0]["input_overflow"].is_null());
  report.linears[0].input_overflow = {1000, 0, 0};
  EXPECT_THAT(to_terminal(report), HasSubstr("none of 1 clips a value of the evaluation text"));
  EXPECT_THAT(to_markdown(report, ""), Not(HasSubstr("## Static scales that clip")));
  report.linears[2].input_overflow = {4000, 50, 0.0125};
  EXPECT_EQ(to_json(report)["linears"][2]["input_overflow"],
            (nlohmann::json{{"values", 4000}, {"overflowed", 50}, {"share", 0.0125}}));
  EXPECT_THAT(to_terminal(report),
              HasSubstr("1 of 2 clip values of the evaluation text, at most 1.2 % (l.1.q_proj)"));
  EXPECT_THAT(to_markdown(report, ""),
              AllOf(HasSubstr("## Static scales that clip"), HasSubstr("| l.1.q_proj | 4000 | 50 | 1.2 % |"),
                    Not(HasSubstr("| l.0.q_proj | 1000 |"))));
}

TEST(Report, ScalesOfARoleAreAHistogram) {
  Report report = small_report();
  EXPECT_TRUE(to_json(report)["scale_histograms"].empty());
  report.scale_histograms = {{"q_proj", 0.25, 0.5, 2.0, 3, -8, {1, 0, 2}}};
  const nlohmann::json row = to_json(report)["scale_histograms"][0];
  EXPECT_EQ(row, (nlohmann::json{{"role", "q_proj"},
                                 {"least", 0.25},
                                 {"median", 0.5},
                                 {"largest", 2.0},
                                 {"zeros", 3},
                                 {"first", -8},
                                 {"counts", {1, 0, 2}}}));
}

TEST(Report, SaysHowInputsLookWhereAskedAndOfHowManyTokensErrorsAre) {
  Report report = small_report();
  EXPECT_THAT(to_markdown(report, ""), testing::Not(HasSubstr("Inputs of quantised linears")));
  EXPECT_THAT(to_terminal(report), testing::Not(HasSubstr("of the first")));
  EXPECT_TRUE(to_json(report)["activations"].empty());
  report.activations = {{.block = 0,
                         .input = "mlp_in",
                         .tokens = 4096,
                         .width = 64,
                         .abs_max = 8,
                         .outlier_channels = 0,
                         .token_spread = 40},
                        {.block = 1,
                         .input = "expert 3, mlp_mid",
                         .tokens = 300,
                         .width = 128,
                         .abs_max = 812.5,
                         .kurtosis = 900,
                         .outlier_channels = 2,
                         .outlier_share = 0.0125,
                         .token_spread = 3}};
  for (Report::LinearRow& row : report.linears) row.tokens = 65536, row.output_tokens = 65536;
  report.linears[2].output_tokens = 8192;
  const nlohmann::json json = to_json(report);
  EXPECT_EQ(json["activations"][1]["kurtosis"], 900);
  EXPECT_EQ(json["activations"][1]["input"], "expert 3, mlp_mid");
  EXPECT_EQ(json["linears"][2]["output_error_tokens"], 8192);
  EXPECT_EQ(json["linears"][2]["tokens"], 65536);
  EXPECT_THAT(to_markdown(report, ""),
              AllOf(HasSubstr("## Inputs of quantised linears"), HasSubstr("| 2 of 128 | 1.2500 % |"),
                    HasSubstr("of the first 8192 tokens where no algorithm looks at more")));
  EXPECT_THAT(
      to_terminal(report),
      AllOf(HasSubstr("|x| up to 812.5 (block 1, expert 3, mlp_mid); outlier channels in 1 of 2 inputs"),
            HasSubstr("up to 40 x the median token's (block 0, mlp_in)"),
            HasSubstr("of the first 8192 tokens")));
}

/// The text between two others; everything of one that is not there.
std::string between(const std::string& text, const std::string& from, const std::string& to) {
  const size_t begin = text.find(from) + from.size();
  return text.substr(begin, text.find(to, begin) - begin);
}

TEST(ReportHtml, HoldsTheJsonWhateverStandsInNames) {
  Report report = small_report();
  report.model.path = "models/</script><script>alert(1)</script>";
  report.linears[0].name = "<!--<script> \xff @{charts} \u2028";
  report.linears[0].scales = Report::Scales{0.001, 0.002, 0.03};
  report.linears[0].histogram = Report::Histogram{0.5, {1, 2}, {3, 0}, Report::Clip{0.1, 0.2, 0.4}};
  report.linears.push_back(report.linears[1]);
  report.linears[2].histogram = Report::Histogram{0.5, {1}, {1}};
  const std::string page = to_html(report, "With `x`:\n\n    y </script>", {"vLLM: ok @{script}"});
  const std::string text = between(page, "id=\"report\">", "</script>");
  EXPECT_THAT(text, Not(HasSubstr("<")));
  const nlohmann::json data = nlohmann::json::parse(text);
  EXPECT_EQ(data["how_to_load"], "With `x`:\n\n    y </script>");
  EXPECT_EQ(data["consumers"][0], "vLLM: ok @{script}");
  EXPECT_EQ(data["report"]["model"]["path"], report.model.path);
  EXPECT_EQ(data["report"]["linears"][0]["name"], "<!--<script> \ufffd @{charts} \u2028");
  EXPECT_EQ(data["report"]["linears"][0]["histogram"]["after"], nlohmann::json({3, 0}));
  EXPECT_EQ(data["report"]["linears"][0]["histogram"]["clip"],
            nlohmann::json({{"least", 0.1}, {"median", 0.2}, {"largest", 0.4}}));
  EXPECT_TRUE(data["report"]["linears"][2]["histogram"]["clip"].is_null());
  EXPECT_EQ(data["report"]["linears"][0]["scales"]["largest"], 0.03);
  EXPECT_TRUE(data["report"]["linears"][1]["histogram"].is_null());
  EXPECT_EQ(data["report"]["totals"], to_json(report)["totals"]);
}

TEST(ReportHtml, IsWholeAndLoadsNothing) {
  const std::string page = to_html(small_report(), "", {});
  for (const char* part : {"@{style}", "@{report}", "@{charts}", "@{script}"})
    EXPECT_THAT(page, Not(HasSubstr(part)));
  EXPECT_THAT(page,
              AllOf(HasSubstr("default-src 'none'"), HasSubstr("Chart.js v3.9.1"), HasSubstr("@media print"),
                    HasSubstr("Draws report.html"), testing::EndsWith("</body>\n</html>\n")));
  for (const char* link : {" src=", "<link", "@import", "url("})
    EXPECT_THAT(between(page, "", "<script>"), Not(HasSubstr(link)));
}

TEST(ReportJson, HoldsEveryFigureUnderItsKey) {
  const nlohmann::json json = to_json(small_report());
  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["recipe"]["rules"][0]["targets"][0], "linear");
  EXPECT_EQ(json["model"], nlohmann::json({{"path", "models/m"},
                                           {"family", "llama"},
                                           {"dtype", "F16"},
                                           {"blocks", 2},
                                           {"parameters", 4'000'000}}));
  EXPECT_EQ(json["environment"]["compute_dtype"], "F32");
  EXPECT_EQ(json["environment"]["threads"], 2);
  EXPECT_EQ(json["calibration"]["files"], nlohmann::json({"a.txt", "b.txt"}));
  EXPECT_EQ(json["calibration"]["ids_hash"], "xxh3-128:00ff");
  EXPECT_EQ(json["totals"]["bytes_after"], 2'621'440);
  EXPECT_EQ(json["totals"]["quantized_share"], 0.75);
  EXPECT_EQ(json["totals"]["bits_per_parameter"], 5.24288);
  EXPECT_EQ(json["totals"]["peak_rss_bytes"], 3 * 1024 * 1024);
  EXPECT_EQ(json["totals"]["seconds"], 12.75);
  EXPECT_EQ(json["linears"].size(), 3u);
  EXPECT_EQ(json["linears"][0]["output_error"], 0.001234567);
  EXPECT_EQ(json["linears"][0]["weight_error"], 0.01);
  EXPECT_TRUE(json["linears"][0]["ratio"].is_null());
  EXPECT_EQ(json["linears"][1]["ratio"], 0.55);
  EXPECT_EQ(json["linears"][1]["clipped"], true);
  EXPECT_EQ(json["folds"][0]["applied"], true);
  EXPECT_EQ(json["folds"][1]["note"], "no scale lowers the loss");
  EXPECT_EQ(json["kept"][0]["reason"], "ignored by the recipe");
  EXPECT_EQ(json["evaluation"]["perplexity_before"], 20.0);
  EXPECT_EQ(json["evaluation"]["kl_p99"], 0.13);
  EXPECT_EQ(json["stages"][1]["seconds"], 12.25);
  EXPECT_THAT(json["warnings"], IsEmpty());
  EXPECT_EQ(nlohmann::json::parse(json.dump()), json) << "survives writing and reading";
}

TEST(ReportJson, WhatWasNotMeasuredIsNull) {
  Report report = small_report();
  report.evaluation.reset();
  report.linears[0].output_relative_error.reset();
  const nlohmann::json json = to_json(report);
  EXPECT_TRUE(json["evaluation"].is_null());
  EXPECT_TRUE(json["linears"][0]["output_error"].is_null());
  EXPECT_THAT(json["warnings"], IsEmpty()) << "not measured is no fault";
}

TEST(ReportJson, NotFiniteNumbersAreNullAndNamed) {
  Report report = small_report();
  report.warnings = {"first"};
  report.linears[2].output_relative_error = kNaN;
  report.folds[1].loss_after = kInf;
  report.evaluation->perplexity_after = -kInf;
  report.recipe["x"] = kNaN;
  const nlohmann::json json = to_json(report);
  EXPECT_TRUE(json["linears"][2]["output_error"].is_null());
  EXPECT_TRUE(json["folds"][1]["loss_after"].is_null());
  EXPECT_TRUE(json["evaluation"]["perplexity_after"].is_null());
  EXPECT_EQ(json["evaluation"]["perplexity_before"], 20.0);
  EXPECT_THAT(json["warnings"].get<std::vector<std::string>>(),
              ::testing::UnorderedElementsAre(
                  "first", "linears[2].output_error (l.1.q_proj) is not a finite number (nan)",
                  "folds[1].loss_after (l.0.v_proj) is not a finite number (inf)",
                  "evaluation.perplexity_after is not a finite number (-inf)",
                  "recipe.x is not a finite number (nan)"));
  EXPECT_EQ(all_warnings(report).size(), 5u);
}

const std::string kHowToLoad = "With a loader:\n\n    load this/folder\n";

TEST(ReportMarkdown, SummaryComesFirst) {
  const std::string text = to_markdown(small_report(), kHowToLoad);
  EXPECT_THAT(text.substr(0, text.find("\n## ")),
              AllOf(HasSubstr("8.0 MiB -> 2.5 MiB (31.2 %)"), HasSubstr("20 -> 21 (+5.00 %)"),
                    HasSubstr("mean 0.0231"), HasSubstr("1 of 2 edges"), HasSubstr("128 rows x 512 tokens")));
  EXPECT_THAT(
      text, AllOf(HasSubstr("## How to load it\n\n" + kHowToLoad),
                  HasSubstr("| lm_head | ignored by the recipe |"), HasSubstr("no: no scale lowers the loss"),
                  HasSubstr("| quantise | 12.25 |"), HasSubstr("0.001235")));
  EXPECT_THAT(text, Not(HasSubstr("## Warnings")));
}

TEST(ReportMarkdown, WorstLayersComeWorstFirst) {
  Report report = small_report();
  const auto order = [&] {
    const std::string text = to_markdown(report, kHowToLoad);
    const size_t start = text.find("## Layers that lost most");
    std::vector<std::pair<size_t, std::string>> places;
    for (const auto& row : report.linears) places.emplace_back(text.find(row.name, start), row.name);
    std::sort(places.begin(), places.end());
    std::vector<std::string> names;
    for (const auto& place : places) names.push_back(place.second);
    return names;
  };
  EXPECT_THAT(order(), ElementsAre("l.0.o_proj", "l.1.q_proj", "l.0.q_proj"));
  report.linears[0].output_relative_error = kNaN;
  EXPECT_THAT(order(), ElementsAre("l.0.q_proj", "l.0.o_proj", "l.1.q_proj")) << "a NaN is worst";
}

TEST(ReportMarkdown, NoTextBreaksATable) {
  const std::string text = to_markdown(small_report(), kHowToLoad);
  EXPECT_THAT(text, HasSubstr("damping raised \\| twice to 2 %"));
}

TEST(ReportMarkdown, NotFiniteNumbersAreWarnedOf) {
  Report report = small_report();
  report.linears[0].weight_relative_mse = kNaN;
  const std::string text = to_markdown(report, kHowToLoad);
  EXPECT_THAT(text, AllOf(HasSubstr("## Warnings"), HasSubstr("linears[0].weight_error (l.0.q_proj)"),
                          HasSubstr("| n/a |")));
  EXPECT_THAT(to_terminal(report), HasSubstr("warning: linears[0].weight_error (l.0.q_proj)"));
}

TEST(Report, ExpertsAreCounted) {
  Report report = small_report();
  EXPECT_TRUE(to_json(report).at("experts").empty());
  EXPECT_THAT(to_markdown(report, kHowToLoad), Not(HasSubstr("## Experts")));
  report.experts = {{0, {50, 3, 120}, 1}, {1, {70, 0, 103}, 1}};
  const auto rows = to_json(report).at("experts");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[1].at("tokens"), (std::vector<int64_t>{70, 0, 103}));
  EXPECT_EQ(rows[1].at("block"), 1);
  EXPECT_EQ(rows[1].at("below_floor"), 1);
  EXPECT_THAT(to_markdown(report, kHowToLoad),
              AllOf(HasSubstr("## Experts"), HasSubstr("| 0 | 3 | 3 / 50 / 120 | 1 |"),
                    HasSubstr("| 1 | 3 | 0 / 70 / 103 | 1 |")));
  EXPECT_THAT(to_terminal(report),
              HasSubstr("tokens 0 / 70 / 120 (fewest, median, most); 2 of 6 experts took the fall-back"));
}

TEST(ReportTerminal, IsShortAndAligned) {
  const std::string text = to_terminal(small_report());
  EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 25);
  EXPECT_THAT(text, AllOf(HasSubstr("perplexity    20 -> 21 (+5.00 %)\n"),
                          HasSubstr("size          8.0 MiB -> 2.5 MiB"),
                          HasSubstr("same top      89.80 % of 10220 tokens"), Not(HasSubstr("\033["))));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 110u) << line;
}

TEST(ReportTerminal, LeavesOutWhatWasNotMeasured) {
  Report report = small_report();
  report.evaluation.reset();
  report.folds.clear();
  EXPECT_THAT(to_terminal(report),
              AllOf(Not(HasSubstr("perplexity")), Not(HasSubstr("folds")), Not(HasSubstr("nan"))));
}

TEST(Report, SaysWhichChecksFailed) {
  Report report = small_report();
  EXPECT_TRUE(to_json(report)["verification"].is_null());
  report.failed_checks.emplace();
  EXPECT_EQ(to_json(report)["verification"],
            (nlohmann::json{{"passed", true}, {"failed", nlohmann::json::array()}}));
  EXPECT_THAT(to_markdown(report, ""), testing::Not(HasSubstr("Checks that failed")));
  report.failed_checks->push_back({"numbers", "l.0.q_proj", "a finite number", "nan"});
  const nlohmann::json json = to_json(report)["verification"];
  EXPECT_EQ(json["passed"], false);
  EXPECT_EQ(json["failed"][0]["name"], "l.0.q_proj");
  EXPECT_THAT(to_markdown(report, ""), HasSubstr("| numbers | l.0.q_proj | a finite number | nan |"));
}

}  // namespace
}  // namespace lathe
