#include "formats/gguf/sentencepiece_model.h"

#include <cstring>
#include <string_view>

#include "lib/base/error.h"
#include "lib/base/file.h"

namespace lathe {
namespace {

/// The fields of one message, front to back; never past its end.
class Message {
 public:
  Message(std::string_view bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  /// The next field: its number; 0 at the end.
  uint32_t next() {
    if (bytes_.empty()) return 0;
    const uint64_t key = varint();
    kind_ = key & 7;
    return static_cast<uint32_t>(key >> 3);
  }
  uint64_t number() {
    expect(0);
    return varint();
  }
  float real() {
    expect(5);
    float value;
    const std::string_view raw = take(4);
    std::memcpy(&value, raw.data(), sizeof value);
    return value;
  }
  std::string_view bytes() {
    expect(2);
    return take(varint());
  }
  Message message() { return {bytes(), file_}; }
  void skip() {
    if (kind_ == 0) {
      varint();
    } else if (kind_ == 1) {
      take(8);
    } else if (kind_ == 5) {
      take(4);
    } else {
      bytes();
    }
  }

 private:
  [[noreturn]] void refuse() const { user_error("{}: expected a SentencePiece model", file_); }
  void expect(uint64_t kind) const {
    if (kind_ != kind) refuse();
  }
  std::string_view take(uint64_t count) {
    if (count > bytes_.size()) refuse();
    const std::string_view part = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return part;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    refuse();
  }

  std::string_view bytes_;
  const std::string& file_;
  uint64_t kind_ = 0;
};

SentencePieceModel::Piece read_piece(Message message) {
  SentencePieceModel::Piece piece;
  while (const uint32_t field = message.next()) {
    if (field == 1) {
      piece.text = message.bytes();
    } else if (field == 2) {
      piece.score = message.real();
    } else if (field == 3) {
      piece.type = static_cast<int32_t>(message.number());
    } else {
      message.skip();
    }
  }
  return piece;
}

/// A field of a message that holds a number; `fallback` where it is left out.
uint64_t read_number(Message message, uint32_t wanted, uint64_t fallback) {
  while (const uint32_t field = message.next()) {
    if (field == wanted) {
      fallback = message.number();
    } else {
      message.skip();
    }
  }
  return fallback;
}

}  // namespace

SentencePieceModel read_sentencepiece(const std::filesystem::path& file) {
  const std::string name = file.string(), bytes = read_text_file(file);
  SentencePieceModel model;
  Message message(bytes, name);
  while (const uint32_t field = message.next()) {
    if (field == 1) {
      model.pieces.push_back(read_piece(message.message()));
    } else if (field == 2) {
      model.bpe = read_number(message.message(), 3, 1) == 2;
    } else if (field == 3) {
      model.space_prefix = read_number(message.message(), 3, 1) != 0;
    } else {
      message.skip();
    }
  }
  if (model.pieces.empty()) user_error("{}: expected a SentencePiece model, found no piece", name);
  return model;
}

}  // namespace lathe
