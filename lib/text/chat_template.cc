#include "lib/text/chat_template.h"

#include "lib/base/error.h"
#include "lib/text/jinja/confined.h"

namespace lathe::text {
namespace {

using nlohmann::ordered_json;

constexpr const char* kProbe = "lathe-probe";

/// What the engine says, as one line. Its errors end in "Error: <reason>" after a picture of the source.
std::string reason_of(const std::exception& error) {
  std::string text = error.what();
  if (const size_t at = text.rfind("Error: "); at != std::string::npos) text = text.substr(at + 7);
  for (const char* prefix : {"Jinja Exception: "}) {
    if (text.starts_with(prefix)) text = text.substr(std::string_view(prefix).size());
  }
  std::string line;
  for (const char c : text) line += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  return line;
}

std::string text_of_part(const ordered_json& part, const std::string& where) {
  if (part.is_string()) return part.get<std::string>();
  if (!part.is_object() || part.value("type", "") != "text" || !part.contains("text") ||
      !part["text"].is_string()) {
    user_error(
        "{}: expected parts of the form {{\"type\": \"text\", \"text\": ...}}; only text can calibrate",
        where);
  }
  return part["text"].get<std::string>();
}

/// All parts are text; joined by line breaks, as vLLM does for templates that know text only.
std::string joined_parts(const ordered_json& parts, const std::string& where) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += '\n';
    text += text_of_part(parts[i], where);
  }
  return text;
}

}  // namespace

struct ChatTemplate::Program {
  std::unique_ptr<JinjaProgram> jinja;
  bool takes_text = true, takes_parts = false;  // as "content"

  /// Does a message of this content come out as its text, not as Python would print the list?
  bool takes(const ordered_json& content, ordered_json variables) const {
    variables["messages"] = ordered_json::array({{{"role", "user"}, {"content", content}}});
    try {
      const std::string text = jinja->run(variables);
      return text.find(kProbe) != std::string::npos && text.find("'type'") == std::string::npos &&
             text.find("\"type\"") == std::string::npos;
    } catch (const Interrupted&) {
      throw;
    } catch (const std::exception&) {
      return false;
    }
  }
};

ChatTemplate::ChatTemplate(const std::string& source, std::string name, ordered_json special_tokens)
    : name_(std::move(name)), special_tokens_(std::move(special_tokens)) {
  LATHE_ASSERT(special_tokens_.is_object(), "special tokens of a chat template are an object");
  program_ = std::make_unique<Program>();
  try {
    program_->jinja = parse_confined(source);
  } catch (const UserError&) {
    throw;
  } catch (const Interrupted&) {
    throw;
  } catch (const std::exception& error) {
    user_error("{}: not a valid chat template: {}", name_, reason_of(error));
  }
  const ordered_json part = {{"type", "text"}, {"text", kProbe}};
  program_->takes_parts = program_->takes(ordered_json::array({part}), variables(nullptr));
  program_->takes_text = !program_->takes_parts || program_->takes(kProbe, variables(nullptr));
}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

ordered_json ChatTemplate::variables(const ordered_json& tools) const {
  ordered_json variables = special_tokens_;
  variables["tools"] = tools;
  variables["documents"] = nullptr;
  variables["add_generation_prompt"] = false;
  return variables;
}

ordered_json ChatTemplate::normalised(const ordered_json& messages, const std::string& place) const {
  if (!messages.is_array() || messages.empty())
    user_error("{}: expected a list of at least one message, found {}", place,
               messages.is_array() ? "an empty list" : messages.type_name());
  ordered_json result = ordered_json::array();
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string where = fmt::format("{}: message {}", place, i);
    ordered_json message = messages[i];
    if (!message.is_object()) user_error("{}: expected an object, found {}", where, message.type_name());
    if (!message.contains("role") || !message["role"].is_string()) {
      user_error("{}: expected a text 'role', found {}", where,
                 message.contains("role") ? message["role"].type_name() : "none");
    }
    if (message.contains("content")) {
      ordered_json& content = message["content"];
      if (content.is_array()) {
        const std::string joined = joined_parts(content, where + ": content");
        if (!program_->takes_parts) content = joined;
      } else if (content.is_string()) {
        if (!program_->takes_text) content = ordered_json::array({{{"type", "text"}, {"text", content}}});
      } else if (!content.is_null()) {
        user_error("{}: content: expected text or a list of text parts, found {}", where,
                   content.type_name());
      }
    }
    result.push_back(std::move(message));
  }
  return result;
}

std::string ChatTemplate::render(const ordered_json& messages, const ordered_json& tools,
                                 const std::string& place) const {
  ordered_json all = variables(tools);
  all["messages"] = normalised(messages, place);
  try {
    return program_->jinja->run(all);
  } catch (const Interrupted&) {
    throw;
  } catch (const std::exception& error) {
    user_error("{}: the chat template ({}) refuses the conversation: {}", place, name_, reason_of(error));
  }
}

const ChatTemplate* ChatTemplates::choose(bool with_tools) const {
  if (with_tools && tool_use) return &*tool_use;
  return standard ? &*standard : nullptr;
}

std::string ChatTemplates::why_none() const {
  if (lacks_tokenizer_json)
    return "and the model folder's can't be used without tokenizer.json (tokenizer.model alone reads the "
           "special tokens that it writes as plain text); add tokenizer.json";
  if (tool_use) return "and the model folder has one for conversations with tools only; add another";
  return "and the model folder has none (chat_template.jinja, or chat_template in tokenizer_config.json); "
         "add "
         "it";
}

}  // namespace lathe::text
