// Conditions of `quantize compare --fail-if`, what comes of them, and their XML.
#include "apps/quantize/compare_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "apps/quantize/compare.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Is = FailCondition::Is;

std::string refusal(const std::string& text) {
  try {
    parse_condition(text);
  } catch (const UserError& error) {
    return error.what();
  }
  ADD_FAILURE() << text;
  return "";
}

TEST(FailCondition, ReadsFiguresSignsPerCentAndSizes) {
  const FailCondition kl = parse_condition("kl>0.05");
  EXPECT_EQ(kl.figure, "kl");
  EXPECT_EQ(kl.is, Is::above);
  EXPECT_EQ(kl.value, 0.05);
  const FailCondition increase = parse_condition(" ppl_increase >= 2 % ");
  EXPECT_EQ(increase.figure, "ppl_increase");
  EXPECT_EQ(increase.is, Is::at_least);
  EXPECT_EQ(increase.value, 0.02);
  EXPECT_EQ(parse_condition("ppl_increase>0.02").value, 0.02);
  EXPECT_EQ(parse_condition("ppl_increase>-1%").value, -0.01);
  EXPECT_EQ(parse_condition("size>4GiB").value, 4.0 * (1 << 30));
  EXPECT_EQ(parse_condition("same_top<95%").is, Is::below);
  EXPECT_EQ(parse_condition("bits<=4.5").is, Is::at_most);
}

TEST(FailCondition, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(refusal("kl"), HasSubstr("expected a condition such as kl>0.05"));
  EXPECT_THAT(refusal("kl_meen>1"), AllOf(HasSubstr("unknown figure 'kl_meen'"), HasSubstr("kl_median")));
  EXPECT_THAT(refusal("kl>"), HasSubstr("expected a number after the sign"));
  EXPECT_THAT(refusal("kl>5%"), HasSubstr("expected a number after the sign"));
  EXPECT_THAT(refusal("kl>nan"), HasSubstr("expected a number"));
  EXPECT_THAT(refusal("kl>inf"), HasSubstr("expected a number"));
  EXPECT_THAT(refusal("kl>0.05x"), HasSubstr("expected a number"));
  EXPECT_THAT(refusal("size>many"), HasSubstr("expected a size such as 4GiB"));
  EXPECT_THAT(refusal("size>4"), HasSubstr("expected a size such as 4GiB"));
  EXPECT_THAT(refusal("ppl_increase>2"), HasSubstr("0.02 or 2%"));
  EXPECT_THAT(refusal("same_top<95"), HasSubstr("0.02 or 2%"));
  EXPECT_THAT(refusal(">1"), HasSubstr("unknown figure ''"));
}

TEST(FailCondition, HoldsOnItsSideAndForWhatIsNoNumber) {
  EXPECT_TRUE(parse_condition("kl>0.05").holds(0.051));
  EXPECT_FALSE(parse_condition("kl>0.05").holds(0.05));
  EXPECT_TRUE(parse_condition("kl>=0.05").holds(0.05));
  EXPECT_FALSE(parse_condition("same_top<0.9").holds(0.9));
  EXPECT_TRUE(parse_condition("same_top<=0.9").holds(0.9));
  for (const char* text : {"kl>0.05", "kl<0.05"}) {
    EXPECT_TRUE(parse_condition(text).holds(std::nan("")));
    EXPECT_TRUE(parse_condition(text).holds(std::numeric_limits<double>::infinity()));
  }
}

TEST(CheckArtefacts, EachConditionOfEachAndThatItCouldBeEvaluated) {
  ComparedArtefact good{.name = "good",
                        .bytes = 100,
                        .bits_per_weight = 4,
                        .result = EvalResult{.tokens = 9, .perplexity = 21, .divergence = std::nullopt}};
  good.result->divergence = EvalResult::Divergence{.mean = 0.01, .same_top = 0.9, .reference_perplexity = 20};
  const ComparedArtefact broken{
      .name = "broken", .bytes = 100, .result = std::nullopt, .trouble = "not finite"};
  const auto checks = check_artefacts(
      {good, broken},
      {parse_condition("kl>0.005"), parse_condition("ppl_increase>6%"), parse_condition("size>1kB")});
  ASSERT_EQ(checks.size(), 8u);
  EXPECT_EQ(checks[0].failure, "");
  EXPECT_EQ(checks[1].failure, "kl is 0.01");
  EXPECT_EQ(checks[2].failure, "");
  EXPECT_EQ(checks[3].failure, "");
  EXPECT_EQ(checks[4].failure, "not finite");
  EXPECT_EQ(checks[5].failure, "kl is not known");
  EXPECT_EQ(checks[6].failure, "ppl_increase is not known");
  EXPECT_EQ(checks[7].failure, "");
}

TEST(JunitXml, IsEscapedAndCountsFailures) {
  const std::string xml = junit_xml({{"a<b>&\"c\"", "kl>0.05", "", "kl", 0.0125},
                                     {"x\x01\xff\xef\xbf\xbf", "kl>0.05", "is\n\"7\"", "kl", {}},
                                     {"c", "evaluated", ""}},
                                    1.5);
  EXPECT_THAT(xml, AllOf(HasSubstr("tests=\"3\" failures=\"1\""), HasSubstr("time=\"1.500\""),
                         HasSubstr("classname=\"a&lt;b&gt;&amp;&quot;c&quot;\" name=\"kl&gt;0.05\">\n      "
                                   "<properties>\n        <property name=\"kl\" value=\"0.0125\"/>"),
                         HasSubstr("classname=\"c\" name=\"evaluated\"/>"),
                         HasSubstr("classname=\"x\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""),
                         HasSubstr("<failure message=\"is&#10;&quot;7&quot;\"/>")));
  EXPECT_THAT(xml, Not(HasSubstr("\x01")));
}

}  // namespace
}  // namespace lathe
