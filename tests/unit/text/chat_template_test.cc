// Chat templates against transformers' own renderings (tests/golden/chat_templates), and what is refused.
#include "lib/text/chat_template.h"

#include <gmock/gmock.h>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "tests/unit/text/tokenizer_json.h"

namespace lathe::test {
namespace {

using nlohmann::ordered_json;
using testing::AllOf;
using testing::HasSubstr;
using text::ChatTemplate;

const ordered_json kTokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};

template <class Work>
std::string error_of(Work&& work) {
  try {
    work();
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return "no error";
}

std::string render(const std::string& source, const ordered_json& messages,
                   const ordered_json& tools = nullptr) {
  return ChatTemplate(source, "t.jinja", kTokens).render(messages, tools, "a.jsonl:3");
}

ordered_json turn(const ordered_json& content) {
  return ordered_json::array({{{"role", "user"}, {"content", content}}});
}

TEST(ChatTemplate, RendersAsTransformersDoes) {
  const std::string file = LATHE_SOURCE_DIR "/tests/golden/chat_templates/rendered.json";
  const auto golden = ordered_json::parse(read_text_file(file));
  size_t rendered = 0, refused = 0;
  for (const ordered_json& entry : golden["cases"]) {
    const std::string name = entry["template"],
                      title = name + ", " + entry["conversation"].get<std::string>();
    const ChatTemplate chat(golden["templates"][name], name, golden["special_tokens"]);
    if (entry.contains("text")) {
      EXPECT_EQ(chat.render(entry["messages"], entry["tools"], "x"), entry["text"].get<std::string>())
          << title;
      ++rendered;
    } else if (entry["error"].get<std::string>().find("None") == std::string::npos) {
      // Raised by the template. (Python's complaints about None have no counterpart: the engine takes null
      // for an empty text.)
      EXPECT_THAT(error_of([&] { chat.render(entry["messages"], entry["tools"], "a.jsonl:7"); }),
                  AllOf(HasSubstr("a.jsonl:7: the chat template (" + name + ")"),
                        HasSubstr(entry["error"].get<std::string>())))
          << title;
      ++refused;
    }
  }
  EXPECT_EQ(rendered, 20u);
  EXPECT_EQ(refused, 4u);
}

TEST(ChatTemplate, JoinsPartsForATemplateThatKnowsTextOnly) {
  const ordered_json parts = {{{"type", "text"}, {"text", "one"}}, {{"type", "text"}, {"text", "two"}}};
  EXPECT_EQ(render("{% for m in messages %}[{{ m['content'] + '!' }}]{% endfor %}", turn(parts)),
            "[one\ntwo!]");
}

TEST(ChatTemplate, GivesPartsToATemplateThatKnowsPartsOnly) {
  EXPECT_EQ(
      render("{% for m in messages %}{% for p in m.content %}{% if p.type == 'text' %}[{{ p.text }}]{% endif "
             "%}{% endfor %}{% endfor %}",
             turn("one")),
      "[one]");
}

TEST(ChatTemplate, KnowsNoOtherDay) {
  EXPECT_EQ(render("{{ strftime_now('%Y-%m-%d') }}", turn("x")), "2024-07-26");
}

TEST(ChatTemplate, GivesToolsAndSpecialTokens) {
  const ordered_json tools = {{{"z", 1}, {"a", "\u00e9"}}};
  EXPECT_EQ(render("{{ bos_token }}{% for t in tools %}{{ t | tojson }}{% endfor %}", turn("x"), tools),
            "<s>{\"z\": 1, \"a\": \"\u00e9\"}");
  EXPECT_EQ(render("{{ tools is none }} {{ add_generation_prompt }}", turn("x")), "True False");
}

TEST(ChatTemplate, RefusesBadSyntax) {
  EXPECT_THAT(error_of([] { ChatTemplate("{% for x in %}", "t.jinja", kTokens); }),
              HasSubstr("t.jinja: not a valid chat template: "));
  EXPECT_THAT(error_of([] { ChatTemplate("{{ 'open", "t.jinja", kTokens); }), HasSubstr("t.jinja"));
}

TEST(ChatTemplate, NamesAFailingCall) {
  EXPECT_THAT(error_of([] { render("{{ no_such_function(1) }}", turn("x")); }),
              HasSubstr("a.jsonl:3: the chat template (t.jinja) refuses the conversation: "));
}

TEST(ChatTemplate, RefusesMessagesOfAnotherForm) {
  const auto error = [](const ordered_json& messages) {
    return error_of([&] { render("{{ messages[0]['content'] }}", messages); });
  };
  const auto list = [](const ordered_json& item) { return ordered_json::array({item}); };
  EXPECT_THAT(error("x"), HasSubstr("a.jsonl:3: expected a list of at least one message, found string"));
  EXPECT_THAT(error(ordered_json::array()), HasSubstr("found an empty list"));
  EXPECT_THAT(error(list(nullptr)), HasSubstr("message 0: expected an object, found null"));
  EXPECT_THAT(error(list({{"content", "x"}})), HasSubstr("message 0: expected a text 'role', found none"));
  EXPECT_THAT(error(list({{"role", nullptr}})), HasSubstr("expected a text 'role', found null"));
  EXPECT_THAT(error(turn(5)), HasSubstr("content: expected text or a list of text parts, found number"));
  EXPECT_THAT(error(turn(list({{"type", "image"}, {"url", "x"}}))), HasSubstr("only text can calibrate"));
  EXPECT_THAT(error(turn(list(nullptr))), HasSubstr("only text can calibrate"));
}

class ChatTemplateFiles : public testing::Test {
 protected:
  std::string rendered(bool with_tools = false) const {
    const text::ChatTemplates templates = text::open_chat_templates(folder_.path());
    const ChatTemplate* chat = templates.choose(with_tools);
    return chat == nullptr ? "none" : chat->render(turn("x"), nullptr, "p");
  }
  void write(const std::string& name, const json& contents) const { folder_.write(name, contents.dump()); }
  TemporaryFolder folder_;
};

TEST_F(ChatTemplateFiles, NoneIsFine) {
  EXPECT_EQ(rendered(), "none");
  write("tokenizer_config.json", {{"chat_template", nullptr}});
  EXPECT_EQ(rendered(), "none");
}

TEST_F(ChatTemplateFiles, TheJinjaFileComesFirst) {
  write("tokenizer_config.json", {{"chat_template", "config"}, {"bos_token", {{"content", "<b>"}}}});
  EXPECT_EQ(rendered(), "config");
  write("chat_template.json", {{"chat_template", "json"}});
  EXPECT_EQ(rendered(), "json");
  folder_.write("chat_template.jinja", "{{ bos_token }}jinja{{ eos_token is defined }}");
  EXPECT_EQ(rendered(), "<b>jinjaFalse");
  write("special_tokens_map.json", {{"bos_token", "<other>"}, {"eos_token", "<e>"}});
  EXPECT_EQ(rendered(), "<b>jinjaTrue");
}

TEST_F(ChatTemplateFiles, PicksTheTemplateForTools) {
  write("tokenizer_config.json",
        {{"chat_template",
          {{{"name", "default"}, {"template", "plain"}}, {{"name", "tool_use"}, {"template", "tools"}}}}});
  EXPECT_EQ(rendered(), "plain");
  EXPECT_EQ(rendered(true), "tools");
}

TEST_F(ChatTemplateFiles, NamesTheMalformedFile) {
  folder_.write("tokenizer_config.json", "[]");
  EXPECT_THAT(error_of([&] { rendered(); }), HasSubstr("tokenizer_config.json: expected a JSON object"));
  write("tokenizer_config.json", {{"chat_template", 5}});
  EXPECT_THAT(error_of([&] { rendered(); }), HasSubstr("chat_template: expected an array"));
  write("tokenizer_config.json", {{"chat_template", "{% if %}"}});
  EXPECT_THAT(error_of([&] { rendered(); }), HasSubstr("tokenizer_config.json: chat_template: not a valid"));
}

}  // namespace
}  // namespace lathe::test
