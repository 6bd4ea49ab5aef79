// What a GGUF file wants of a SentencePiece tokenizer.model: its pieces with scores and types. The file is a
// protocol buffer (sentencepiece_model.proto: ModelProto.pieces = 1 {piece = 1, score = 2, type = 3},
// normalizer_spec = 3 {add_dummy_prefix = 3}, trainer_spec = 2 {model_type = 3}).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace lathe {

struct SentencePieceModel {
  struct Piece {
    std::string text;
    float score = 0;
    int32_t type = 1;  // as in GGUF: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  };
  std::vector<Piece> pieces;
  bool bpe = false;  // else unigram, ...
  bool space_prefix = true;
};

/// UserError naming the file where it is no such model.
SentencePieceModel read_sentencepiece(const std::filesystem::path& file);

}  // namespace lathe
