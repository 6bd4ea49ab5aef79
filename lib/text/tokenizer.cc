#include "lib/text/tokenizer.h"

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/text/json_tokenizer.h"
#include "lib/text/sentencepiece_tokenizer.h"

namespace lathe {

std::unique_ptr<Tokenizer> open_tokenizer(const std::filesystem::path& model_folder) {
  const auto json_file = model_folder / "tokenizer.json";
  if (std::filesystem::exists(json_file)) {
    const auto document = text::parse_json(read_text_file(json_file), json_file.string());
    return std::make_unique<text::JsonTokenizer>(text::JsonValue(document, json_file.string()));
  }
  const auto model_file = model_folder / "tokenizer.model";
  if (std::filesystem::exists(model_file)) return text::open_sentencepiece(model_file);
  user_error("{}: no tokenizer: expected tokenizer.json or tokenizer.model in the folder",
             model_folder.string());
}

}  // namespace lathe
