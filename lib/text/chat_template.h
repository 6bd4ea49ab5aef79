// A model's chat template: a conversation as the text that the model was trained on.
//
// The templates are Jinja. The engine is llama.cpp's (common/jinja, MIT; .ci/deps fetches it), chosen by a
// count: of 490 renderings (70 published templates, 7 conversations each) 446 equal those of transformers
// 5.17 byte for byte, where the header-only minja, its predecessor, gives 378. Most of the rest are lists of
// content parts given to templates that know text only, which render() joins before the engine sees them.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace lathe::text {

class ChatTemplate {
 public:
  /// `source` is Jinja; `name` stands for its file in errors; `special_tokens` is {"bos_token": "<s>", ...},
  /// the variables that templates expect. UserError for bad syntax.
  ChatTemplate(const std::string& source, std::string name, nlohmann::ordered_json special_tokens);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  /// The text of a conversation, without a prompt for a further answer: what transformers'
  /// apply_chat_template(messages, tools=tools, tokenize=False) gives. It holds BOS and the like where the
  /// template writes them, so it is tokenised without special tokens.
  ///
  /// `messages`: an array of objects with a text "role", and a "content" that is text, null, or an array of
  /// {"type": "text", "text": ...} parts (parts are joined by line breaks for a template that knows text
  /// only, as vLLM does; the template was tried out when it was read). Null prints nothing, where Python
  /// prints "None". `tools`: an array, or null. strftime_now() answers 26 July 2024 at noon on every
  /// day, so that the same input gives the same text. UserError, `place` first, for messages of another form
  /// and for what the template refuses (raise_exception) or fails at.
  std::string render(const nlohmann::ordered_json& messages, const nlohmann::ordered_json& tools,
                     const std::string& place) const;

 private:
  struct Program;
  nlohmann::ordered_json variables(const nlohmann::ordered_json& tools) const;
  nlohmann::ordered_json normalised(const nlohmann::ordered_json& messages, const std::string& place) const;
  std::string name_;
  nlohmann::ordered_json special_tokens_;
  std::unique_ptr<Program> program_;
};

/// The chat templates of a model folder; transformers' order of search: chat_template.jinja (and
/// additional_chat_templates/tool_use.jinja), then chat_template.json, then "chat_template" of
/// tokenizer_config.json (a text, or a list of {"name", "template"}).
struct ChatTemplates {
  std::optional<ChatTemplate> standard;  // "default"; none: the model has no chat template
  std::optional<ChatTemplate> tool_use;  // for conversations with tools, where the folder has one of its own

  /// The template for a conversation with or without tools; null where there is none.
  const ChatTemplate* choose(bool with_tools) const;
  /// Why choose() gives null, and what to do: "and the model folder has none (...); add it".
  std::string why_none() const;

  /// The folder has a template that is left out: without tokenizer.json its special tokens would be read as
  /// plain text.
  bool lacks_tokenizer_json = false;
};
/// UserError where a file is malformed; a folder without any template is fine.
ChatTemplates open_chat_templates(const std::filesystem::path& model_folder);

/// Whether the folder has any, without reading them as Jinja. UserError where a JSON file is malformed.
bool has_chat_template(const std::filesystem::path& model_folder);

}  // namespace lathe::text
