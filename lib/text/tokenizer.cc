#include "lib/text/tokenizer.h"

#include <charconv>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/text/json_tokenizer.h"
#include "lib/text/sentencepiece_tokenizer.h"

namespace lathe {

std::string sentencepiece_text(std::string_view piece) {
  constexpr std::string_view kBlank = "\xe2\x96\x81";  // U+2581
  unsigned byte = 0;
  if (piece.size() == 6 && piece.starts_with("<0x") && piece.back() == '>' &&
      std::from_chars(piece.data() + 3, piece.data() + 5, byte, 16).ptr == piece.data() + 5)
    return std::string(1, static_cast<char>(byte));
  std::string text;
  while (!piece.empty()) {
    const bool blank = piece.starts_with(kBlank);
    text += blank ? ' ' : piece.front();
    piece.remove_prefix(blank ? kBlank.size() : 1);
  }
  return text;
}

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
