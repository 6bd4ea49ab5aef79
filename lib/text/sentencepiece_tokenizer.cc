#include "lib/text/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/strings.h"
#include "lib/base/terminal.h"
#include "lib/text/json_reader.h"

namespace lathe::text {
namespace {

class SentencePieceTokenizer : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(const std::filesystem::path& file) : file_(file.string()) {
    const std::string bytes = read_text_file(file);
    // On garbage the library logs to stderr and then returns an error. An empty file is an empty message to
    // it: fine.
    const auto status = bytes.empty()
                            ? sentencepiece::util::Status(sentencepiece::util::StatusCode::kDataLoss, "empty")
                            : processor_.LoadFromSerializedProto(bytes);
    if (!status.ok())
      user_error("{}: expected a SentencePiece model; {}", file_, one_line(status.ToString()));
    read_config(file.parent_path() / "tokenizer_config.json");
  }

  std::vector<int64_t> encode(std::string_view text, bool add_special_tokens) const override {
    if (const auto offset = invalid_utf8_offset(text)) {
      user_error("the text is not UTF-8: byte {} (0x{:02X}) is out of place; convert the text to UTF-8 first",
                 *offset, static_cast<unsigned char>(text[*offset]));
    }
    std::vector<int> ids;
    const auto status = processor_.Encode(text, &ids);
    if (!status.ok())
      user_error("{}: SentencePiece could not encode the text; {}", file_, one_line(status.ToString()));
    std::vector<int64_t> result;
    result.reserve(ids.size() + 2);
    if (add_special_tokens && add_bos_) result.push_back(processor_.bos_id());
    result.insert(result.end(), ids.begin(), ids.end());
    if (add_special_tokens && add_eos_) result.push_back(processor_.eos_id());
    return result;
  }

  std::vector<std::string> pieces() const override {
    std::vector<std::string> pieces;
    for (int id = 0; id < processor_.GetPieceSize(); ++id) pieces.push_back(processor_.IdToPiece(id));
    return pieces;
  }

  std::vector<std::string> texts_of(std::span<const int64_t> ids) const override {
    std::vector<std::string> texts;
    for (const int64_t id : ids)
      texts.push_back(id >= 0 && id < vocab_size()
                          ? sentencepiece_text(processor_.IdToPiece(static_cast<int>(id)))
                          : std::string());
    return texts;
  }

  int64_t vocab_size() const override { return processor_.GetPieceSize(); }

 private:
  void read_config(const std::filesystem::path& config_file) {
    add_bos_ = processor_.bos_id() >= 0;
    if (!std::filesystem::exists(config_file)) return;
    const auto document = parse_json(read_text_file(config_file), config_file.string());
    const JsonValue config(document, config_file.string());
    add_bos_ = config.boolean_or("add_bos_token", add_bos_);
    add_eos_ = config.boolean_or("add_eos_token", false);
    if (add_bos_ && processor_.bos_id() < 0)
      config.at("add_bos_token").expected("false: the model has no BOS");
    if (add_eos_ && processor_.eos_id() < 0)
      config.at("add_eos_token").expected("false: the model has no EOS");
  }

  std::string file_;
  sentencepiece::SentencePieceProcessor processor_;
  bool add_bos_ = false;
  bool add_eos_ = false;
};

}  // namespace

std::unique_ptr<Tokenizer> open_sentencepiece(const std::filesystem::path& model_file) {
  return std::make_unique<SentencePieceTokenizer>(model_file);
}

}  // namespace lathe::text
