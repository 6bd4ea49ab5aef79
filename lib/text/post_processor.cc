#include "lib/text/post_processor.h"

#include <utility>

#include "lib/text/normalizer.h"

namespace lathe::text {

PostProcessor::PostProcessor(const JsonValue& json) {
  if (!json.is_null()) add(json, 0);
}

void PostProcessor::add(const JsonValue& json, int depth) {
  const std::string& type = json.at("type").text();
  if (type == "ByteLevel") return;
  if (type == "TemplateProcessing") return add_template(json);
  if (type != "Sequence") json.unsupported(type, "Sequence, ByteLevel, TemplateProcessing");
  if (depth >= kDeepestSequence) json.expected("a Sequence at most 16 deep");
  for (const JsonValue& member : json.at("processors").items()) add(member, depth + 1);
}

void PostProcessor::add_template(const JsonValue& json) {
  if (has_template_) json.expected("one TemplateProcessing in a Sequence");
  has_template_ = true;
  const JsonValue special_tokens = json.at("special_tokens");
  for (const JsonValue& piece : json.at("single").items()) {
    if (piece.has("Sequence")) {
      const JsonValue id = piece.at("Sequence").at("id");
      if (id.text() != "A") id.expected("\"A\", the only sequence that a single text has");
      template_.push_back({true, {}});
    } else if (piece.has("SpecialToken")) {
      Part part{false, {}};
      const std::string& name = piece.at("SpecialToken").at("id").text();
      for (const JsonValue& id : special_tokens.at(name).at("ids").items()) part.special.push_back(id.id());
      template_.push_back(std::move(part));
    } else {
      piece.expected(R"({"Sequence": ...} or {"SpecialToken": ...})");
    }
  }
}

std::vector<int64_t> PostProcessor::apply(std::vector<int64_t> ids, bool add_special_tokens) const {
  if (!has_template_) return ids;
  std::vector<int64_t> result;
  for (const Part& part : template_) {
    if (part.is_sequence) {
      result.insert(result.end(), ids.begin(), ids.end());
    } else if (add_special_tokens) {
      result.insert(result.end(), part.special.begin(), part.special.end());
    }
  }
  return result;
}

std::optional<PostProcessor::Around> PostProcessor::around(bool add_special_tokens) const {
  Around around;
  if (!has_template_) return around;
  int sequences = 0;
  for (const Part& part : template_) {
    if (part.is_sequence) {
      ++sequences;
    } else if (add_special_tokens) {
      auto& side = sequences == 0 ? around.before : around.after;
      side.insert(side.end(), part.special.begin(), part.special.end());
    }
  }
  return sequences == 1 ? std::optional(std::move(around)) : std::nullopt;
}

}  // namespace lathe::text
