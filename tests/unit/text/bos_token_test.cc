// Which token samples begin with: tokenizers that put it there, flags that say so, and neither.
#include "lib/text/bos_token.h"

#include <gmock/gmock.h>

#include "lib/base/error.h"
#include "tests/unit/text/tokenizer_json.h"

namespace lathe::test {
namespace {

using nlohmann::json;
using text::BosRule;
using text::BosToken;
using text::find_bos;

/// Letters are ids; `front` goes before a text and `behind` after it.
class Letters : public Tokenizer {
 public:
  Letters(std::vector<int64_t> front, std::vector<int64_t> behind)
      : front_(std::move(front)), behind_(std::move(behind)) {}
  std::vector<int64_t> encode(std::string_view text, bool special) const override {
    std::vector<int64_t> ids;
    if (special) ids = front_;
    if (text == "<s>") {
      ids.push_back(7);
    } else {
      for (const char c : text) ids.push_back(c);
    }
    if (special) ids.insert(ids.end(), behind_.begin(), behind_.end());
    return ids;
  }
  std::vector<std::string> pieces() const override { return {}; }
  std::vector<std::string> texts_of(std::span<const int64_t> ids) const override {
    return std::vector<std::string>(ids.size());
  }
  int64_t vocab_size() const override { return 128; }

 private:
  std::vector<int64_t> front_, behind_;
};

TEST(BosToken, FollowsFlagAndPostProcessor) {
  const Letters llama({7}, {}), qwen({}, {}), both({7}, {8}), bert({7, 9}, {8});
  const json flag_on{{"add_bos_token", true}, {"bos_token", "<s>"}};
  const json flag_off{{"add_bos_token", false}, {"bos_token", {{"content", "<s>"}}}};
  const struct {
    const Tokenizer& tokenizer;
    json config;
    std::optional<int64_t> automatic, always;
  } cases[] = {
      {llama, nullptr, 7, 7},
      {llama, flag_off, std::nullopt, 7},
      {both, nullptr, 7, 7},
      {qwen, flag_on, 7, 7},
      {qwen, flag_off, std::nullopt, 7},
      {qwen, json{{"bos_token", "<s>"}}, std::nullopt, 7},
      {bert, json{{"bos_token", nullptr}}, std::nullopt, 5},  // two tokens in front are no BOS
  };
  for (const auto& c : cases) {
    const BosToken bos = find_bos(c.tokenizer, c.config, {{"bos_token_id", 5}});
    EXPECT_EQ(bos.chosen(BosRule::automatic, "m"), c.automatic) << c.config;
    EXPECT_EQ(bos.chosen(BosRule::always, "m"), c.always) << c.config;
    EXPECT_EQ(bos.chosen(BosRule::never, "m"), std::nullopt);
  }
}

TEST(BosToken, OneThatIsAskedForMustBeKnown) {
  const Letters none({}, {});
  const BosToken unknown = find_bos(none, {{"add_bos_token", true}, {"bos_token", "two"}}, nullptr);
  EXPECT_EQ(unknown.chosen(BosRule::never, "m"), std::nullopt);
  for (const BosRule rule : {BosRule::automatic, BosRule::always}) {
    try {
      unknown.chosen(rule, "folder");
      FAIL() << "a token was made up";
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("folder: samples should begin with BOS"));
    }
  }
}

TEST(BosToken, OfAFolder) {
  const TemporaryFolder folder;
  const Letters plain({}, {});
  EXPECT_EQ(find_bos(plain, folder.path()).id, std::nullopt);
  folder.write("config.json", R"({"bos_token_id": 3})");
  EXPECT_EQ(find_bos(plain, folder.path()).id, 3);
  folder.write("tokenizer_config.json", R"({"bos_token": "<s>", "add_bos_token": true})");
  EXPECT_EQ(find_bos(plain, folder.path()).chosen(BosRule::automatic, "m"), 7);
}

}  // namespace
}  // namespace lathe::test
