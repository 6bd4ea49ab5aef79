#include <gmock/gmock.h>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "tests/unit/text/tokenizer_json.h"

namespace lathe::test {
namespace {

// The protocol buffer of SentencePiece's ModelProto, as far as a model of a few pieces needs it.
std::string field(int number, const std::string& bytes) {
  return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(bytes.size())} + bytes;
}
std::string number_field(int number, int value) {
  return {static_cast<char>(number << 3), static_cast<char>(value)};
}
enum PieceKind { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4 };
std::string piece(const std::string& text, PieceKind kind, float score = 0) {
  const std::string score_bytes(reinterpret_cast<const char*>(&score), sizeof score);
  return field(1, field(1, text) + std::string{0x15} + score_bytes + number_field(3, kind));
}

std::string tiny_model() {
  return piece("<unk>", kUnknown) + piece("<s>", kControl) + piece("</s>", kControl) +
         piece("▁", kNormal, -9) + piece("a", kNormal, -8) + piece("b", kNormal, -7) +
         piece("ab", kNormal, -1) + piece("▁ab", kNormal, -2) + piece("[L]", kUserDefined) +
         field(2, number_field(3, 2));  // trainer_spec.model_type = BPE
}

TEST(SentencePiece, Bpe) {
  const TemporaryFolder folder;
  folder.write("tokenizer.model", tiny_model());
  const auto tokenizer = open_tokenizer(folder.path());
  EXPECT_EQ(tokenizer->vocab_size(), 9);
  EXPECT_EQ(tokenizer->encode("ab b", false), (Ids{7, 3, 5}));
  EXPECT_EQ(tokenizer->encode("ab[L]z", false), (Ids{7, 8, 0}));
  EXPECT_EQ(tokenizer->encode("", true), (Ids{1}));
  EXPECT_EQ(tokenizer->encode("ab", true), (Ids{1, 7}));
  EXPECT_THROW(tokenizer->encode("\xff", false), UserError);
}

TEST(SentencePiece, ConfigBesideItSaysWhichTokensAreAdded) {
  const TemporaryFolder folder;
  folder.write("tokenizer.model", tiny_model());
  folder.write("tokenizer_config.json", R"({"add_bos_token": false, "add_eos_token": true})");
  EXPECT_EQ(open_tokenizer(folder.path())->encode("ab", true), (Ids{7, 2}));
  folder.write("tokenizer_config.json", R"({"add_bos_token": "yes"})");
  EXPECT_THROW(open_tokenizer(folder.path()), UserError);
}

TEST(SentencePiece, MalformedFiles) {
  const std::string whole = tiny_model();
  for (const std::string& bytes :
       {std::string(), std::string("not a model"), std::string(100, '\xff'), whole.substr(0, 20)}) {
    const TemporaryFolder folder;
    folder.write("tokenizer.model", bytes);
    try {
      open_tokenizer(folder.path());
      ADD_FAILURE() << "no error for " << bytes.size() << " bytes";
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("tokenizer.model")) << error.what();
    }
  }
}

// A real model, where the shared folder is there; ids from the `sentencepiece` package.
TEST(SentencePiece, Stories260k) {
  const auto shared =
      std::filesystem::path(LATHE_SOURCE_DIR) / "../shared/models/stories260k/tokenizer.model";
  if (!std::filesystem::exists(shared)) GTEST_SKIP() << shared << " is not there";
  const TemporaryFolder folder;
  std::filesystem::copy_file(shared, folder.path() / "tokenizer.model");
  EXPECT_EQ(open_tokenizer(folder.path())->encode("Hello world, the 123 cats", true),
            (Ids{1, 346, 306, 414, 263, 304, 341, 432, 265, 410, 475, 479, 472, 280, 294, 419}));
}

}  // namespace
}  // namespace lathe::test
