// `--set`: each argument that can't be taken is named.
#include "recipes/overrides.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/error.h"
#include "recipes/recipe.h"
#include "tests/unit/recipes/vocabulary.h"

namespace lathe {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string message_of(const std::vector<std::string>& sets) {
  try {
    parse_recipe("rules:\n  - {targets: [linear]}\nmodel: a\n", "r.yaml", sets, test_vocabulary());
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

struct BadSet {
  std::string name, argument;
  std::vector<std::string> words;
};

class BadSetTest : public testing::TestWithParam<BadSet> {};

TEST_P(BadSetTest, NamesTheArgument) {
  const std::string message = message_of({GetParam().argument});
  EXPECT_THAT(message, StartsWith("--set " + GetParam().argument + ": "));
  for (const std::string& word : GetParam().words) EXPECT_THAT(message, HasSubstr(word));
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadSetTest,
    testing::ValuesIn(std::vector<BadSet>{
        {"no_equals", "model", {"expected key=value"}},
        {"no_key", "=5", {"expected a path"}},
        {"bad_path", "rules[x].scheme=5", {"expected a path", "character 6"}},
        {"open_index", "rules[0", {"expected key=value"}},
        {"unclosed_index", "rules[0=5", {"expected a path"}},
        {"text_after_index", "rules[0]scheme.bits=4", {"expected a path", "character 9"}},
        {"double_dot", "output..path=5", {"expected a path"}},
        {"index_first", "[0].bits=4", {"expected a path"}},
        {"index_beyond", "rules[2].scheme.bits=4", {"'rules'", "up to 1", "found 2"}},
        {"index_of_map", "rules[0][1]=4", {"'rules[0]'", "a list", "found a map"}},
        {"key_of_list", "rules.scheme=4", {"'rules'", "a map", "found a list of 1"}},
        {"key_of_scalar", "model.path=4", {"'model'", "a map", "found 'a'"}},
        {"bad_yaml", "model=[1", {"expected valid YAML"}},
        {"two_values", "model=a\n--- b", {"expected one value"}},
        {"wrong_type",
         "rules[0].scheme.group_size=many",
         {"rules[0].scheme.group_size: expected a multiple", "'many'"}},
        {"no_value", "rules[0].scheme.bits=", {"rules[0].scheme.bits: expected an integer", "nothing"}},
        {"unknown_key", "rules[0].scheme.bitz=4", {"did you mean 'bits'?"}},
        {"unknown_new_map", "evalute.rows=4", {"did you mean 'evaluate'?"}},
        {"incomplete_new_map", "evaluate.rows=4", {"evaluate: expected the key 'text'"}},
    }),
    [](const testing::TestParamInfo<BadSet>& info) { return info.param.name; });

}  // namespace
}  // namespace lathe
