#include "apps/quantize/dataset.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "formats/gguf/gguf_tokenizer.h"
#include "lib/text/json_tokenizer.h"

namespace lathe {
namespace {

std::string documents(int64_t count) { return fmt::format("{} document{}", count, count == 1 ? "" : "s"); }

std::string describe_source(const SourceCounts& source) {
  std::string text =
      fmt::format("{}: {}, {}, {} tokens, {} usable samples, {} taken", source.path, source.kind,
                  documents(source.documents), source.tokens, source.usable, source.taken);
  if (source.read < 1) text += fmt::format(" (estimated from {} of the file)", describe_head(source.read));
  if (source.truncated > 0) text += fmt::format("; {} truncated", documents(source.truncated));
  if (source.dropped > 0) text += fmt::format("; {} dropped as too short", documents(source.dropped));
  if (source.absent > 0) text += fmt::format("; {} without a value", documents(source.absent));
  return text;
}

nlohmann::json source_json(const SourceCounts& source) {
  nlohmann::json json = {{"path", source.path},
                         {"kind", source.kind},
                         {"file_hash", source.file_hash},
                         {"documents", source.documents},
                         {"dropped", source.dropped},
                         {"truncated", source.truncated},
                         {"without_value", source.absent},
                         {"tokens", source.tokens},
                         {"usable_samples", source.usable},
                         {"samples", source.taken},
                         {"sample_tokens", source.taken_tokens}};
  if (source.read == 1) return json;
  json["file_hash"] = nullptr;
  json["read"] = source.read;
  return json;
}

/// "English 93 %, French 5 %"; less than a percent is left out. Empty where there is no text.
std::string describe_languages(const text::LanguageCounts& counts) {
  std::vector<std::pair<double, std::string>> shares;
  for (const auto& [name, bytes] : counts) shares.emplace_back(text::share_of(counts, name), name);
  std::ranges::sort(shares, std::greater<>());
  std::string text;
  for (const auto& [share, name] : shares) {
    if (share >= 0.01) text += fmt::format("{}{} {:.0f} %", text.empty() ? "" : ", ", name, 100 * share);
  }
  return text;
}

nlohmann::json languages_json(const text::LanguageCounts& counts) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [name, bytes] : counts) json[name] = text::share_of(counts, name);
  return json;
}

}  // namespace

Encoder ModelText::encoder() const {
  return {
      .tokenizer = tokenizer.get(), .templates = &templates, .vocab_size = vocab_size, .max_ram = max_ram};
}

text::ScriptCounts ModelText::vocabulary_scripts() const {
  text::ScriptCounts counts;
  for (const std::string& piece : tokenizer->pieces()) text::add_scripts(piece, counts);
  return counts;
}

namespace {

bool holds_tokenizer(const std::filesystem::path& folder) {
  return std::filesystem::exists(folder / "tokenizer.json") ||
         std::filesystem::exists(folder / "tokenizer.model");
}

ModelText text_of_gguf(const GgufFile& file, int64_t vocab_size) {
  const GgufTokenizer found = tokenizer_of_gguf(file);
  const std::string name = file.path().string();
  ModelText text{.tokenizer = std::make_unique<text::JsonTokenizer>(text::JsonValue(found.tokenizer, name)),
                 .templates = {},
                 .vocab_size = vocab_size,
                 .name = name};
  text.bos = text::find_bos(*text.tokenizer, found.tokenizer_config, {});
  if (const auto chat = found.tokenizer_config.find("chat_template"); chat != found.tokenizer_config.end()) {
    nlohmann::ordered_json specials;
    for (const auto& [key, value] : found.tokenizer_config.items()) {
      if (key.ends_with("_token")) specials[key] = value;
    }
    text.templates.standard.emplace(chat->get<std::string>(), name + ": tokenizer.chat_template", specials);
  }
  return text;
}

}  // namespace

ModelText open_model_text(const ModelFolder& model) {
  const std::filesystem::path model_folder = model.tokenizer_folder();
  const int64_t vocab_size = model.graph.config.vocab_size;
  if (model.gguf != nullptr && !holds_tokenizer(model_folder)) return text_of_gguf(*model.gguf, vocab_size);
  ModelText text{.tokenizer = open_tokenizer(model_folder),
                 .templates = {},
                 .vocab_size = vocab_size,
                 .name = model_folder.string()};
  text.bos = text::find_bos(*text.tokenizer, model_folder);
  // A template writes special tokens as text. SentencePiece alone reads "<s>" as three characters, so
  // the template of a folder without tokenizer.json is left out.
  if (std::filesystem::exists(model_folder / "tokenizer.json"))
    text.templates = text::open_chat_templates(model_folder);
  else
    text.templates.lacks_tokenizer_json = text::has_chat_template(model_folder);
  return text;
}

CalibrationSet read_calibration(const Recipe::Calibration& calibration, const ModelText& reader,
                                TextExtent extent) {
  Encoder encoder = reader.encoder();
  encoder.special_tokens = calibration.special_tokens;
  encoder.min_tokens = calibration.min_tokens;
  return build_calibration_set(calibration.data,
                               {.samples = calibration.samples,
                                .seq_len = calibration.seq_len,
                                .seed = calibration.seed,
                                .packing = calibration.packing,
                                .bos = reader.bos.chosen(calibration.bos, reader.name),
                                .heads = extent == TextExtent::heads},
                               encoder);
}

std::string summarise_dataset(const CalibrationSet& set) {
  int64_t documents_read = 0, tokens = 0;
  for (const SourceCounts& source : set.sources) {
    documents_read += source.documents;
    tokens += source.tokens;
  }
  return fmt::format("calibration: {} of {} usable samples of {}{} tokens ({}, {} tokens)", set.ids.size(0),
                     set.usable, set.lengths.empty() ? "" : "up to ", set.ids.size(1),
                     documents(documents_read), tokens);
}

std::string describe_dataset(const CalibrationSet& set) {
  std::string text;
  for (const SourceCounts& source : set.sources)
    text += fmt::format("data       {}\n", describe_source(source));
  text += fmt::format("samples    {} of {}{} usable, {} tokens", set.ids.size(0), set.whole() ? "" : "about ",
                      set.usable, set.tokens());
  if (set.whole()) text += fmt::format("; {} tokens left over", set.unused_tokens);
  if (const int64_t context = set.context_tokens(); context > 0)
    text += fmt::format("; {} more are context and count in no statistic", context);
  if (set.token_weights.defined()) text += "; weighted in Hessians and mean squares, not in ranges";
  if (set.with_bos > 0) text += fmt::format("; BOS was put in front of {}", set.with_bos);
  text += "\n";
  const std::string languages = describe_languages(set.census.languages());
  if (!languages.empty()) text += fmt::format("languages  {}\n", languages);
  return text;
}

std::string describe_head(double read) { return fmt::format("the first {:.2g} %", 100 * read); }

nlohmann::json dataset_json(const Recipe::Calibration& calibration, const CalibrationSet& set) {
  nlohmann::json sources = nlohmann::json::array();
  for (const SourceCounts& source : set.sources) sources.push_back(source_json(source));
  using nlohmann::json;
  const bool whole = set.whole();
  return {{"ids_hash", whole ? json(ids_hash(set.ids, set.lengths, set.token_weights)) : json()},
          {"samples", set.ids.size(0)},
          {"length", set.ids.size(1)},
          {"tokens", set.tokens()},
          {"context_tokens", set.context_tokens()},
          {"usable_samples", set.usable},
          {"unused_tokens", whole ? json(set.unused_tokens) : json()},
          {"packing", name_of(calibration.packing)},
          {"seq_len", calibration.seq_len},
          {"min_tokens", calibration.min_tokens},
          {"special_tokens", calibration.special_tokens},
          {"bos", name_of(calibration.bos)},
          {"samples_given_bos", set.with_bos},
          {"seed", calibration.seed},
          {"languages", languages_json(set.census.languages())},
          {"sources", std::move(sources)}};
}

}  // namespace lathe
