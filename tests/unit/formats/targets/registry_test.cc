// Names of formats, as people write them.
#include <gmock/gmock.h>

#include "formats/targets/target.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const Target& target : targets()) all.push_back(target.name);
  return all;
}

TEST(FormatNames, TypesAreTakenAsLlamaCppTakesThem) {
  EXPECT_EQ(canonical_format("gguf:q4_k"), "gguf:Q4_K_M");
  EXPECT_EQ(canonical_format("gguf:Q3_K"), "gguf:Q3_K_M");
  EXPECT_EQ(canonical_format("gguf:Q5_K"), "gguf:Q5_K_M");
  EXPECT_EQ(canonical_format("gguf:bf16"), "gguf:BF16");
  EXPECT_EQ(canonical_format("gguf:Q7_K"), "gguf:Q7_K");
  EXPECT_EQ(canonical_format("awq"), "awq");
  for (const std::string& name : names()) EXPECT_EQ(canonical_format(name), name);
}

TEST(FormatNames, NearMissesAreSuggested) {
  const auto suggested = [](const std::string& name) { return suggested_format(name, names()); };
  EXPECT_EQ(suggested("gtpq"), "; did you mean 'gptq'?");
  EXPECT_EQ(suggested("gguf:q4km"), "; did you mean 'gguf:Q4_K_M'?");
  EXPECT_EQ(suggested("gguf:q4-k"), "; did you mean 'gguf:Q4_K_M'?");
  EXPECT_EQ(suggested("q4_k_m"), "; did you mean 'gguf:Q4_K_M'?");
  EXPECT_EQ(suggested("Q8_O"), "; did you mean 'gguf:Q8_0'?");
  EXPECT_EQ(suggested("gguf:"), "");
  EXPECT_EQ(suggested("nothing like it"), "");
  EXPECT_EQ(suggested_format("q4_k_m", {"awq"}), "");
  try {
    find_target("gguf:q4km");
    FAIL() << "taken";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("did you mean 'gguf:Q4_K_M'?"));
  }
}

}  // namespace
}  // namespace lathe
