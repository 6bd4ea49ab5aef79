// A chat template: a NUL ends it, and JSON of a conversation may follow.
#include "lib/text/chat_template.h"

#include "tests/fuzz/fuzz.h"

void lathe::fuzz::read(std::string_view input) {
  const size_t end = std::min(input.find('\0'), input.size());
  const text::ChatTemplate chat(std::string(input.substr(0, end)), "chat_template.jinja",
                                {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
  auto messages =
      nlohmann::ordered_json::parse(input.substr(std::min(end + 1, input.size())), nullptr, false);
  if (messages.is_discarded())
    messages = {{{"role", "user"}, {"content", "Hello"}}, {{"role", "assistant"}, {"content", "Hi."}}};
  chat.render(messages, nullptr, "chats.jsonl:1");
}
