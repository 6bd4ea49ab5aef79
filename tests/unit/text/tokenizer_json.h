// Hand-made tokenizer.json documents for the tests, and folders to put them in.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lib/text/tokenizer.h"

namespace lathe::test {

using Ids = std::vector<int64_t>;
using nlohmann::json;

/// A folder of its own for each test, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    std::string name =
        std::string(test->test_suite_name()) + "_" + test->name() + "_" + std::to_string(getpid());
    for (char& c : name) c = c == '/' ? '_' : c;
    path_ = std::filesystem::temp_directory_path() / name;
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }
  void write(const std::string& name, const std::string& contents) const {
    std::ofstream(path_ / name, std::ios::binary) << contents;
  }

 private:
  std::filesystem::path path_;
};

/// ids 0.. for `tokens` in order; no normalizer, pre-tokenizer, post-processor or added tokens.
inline json bpe_document(const std::vector<std::string>& tokens, const std::vector<std::string>& merges) {
  json vocab = json::object();
  for (size_t i = 0; i < tokens.size(); ++i) vocab[tokens[i]] = i;
  return {{"version", "1.0"},          {"added_tokens", json::array()},
          {"normalizer", nullptr},     {"pre_tokenizer", nullptr},
          {"post_processor", nullptr}, {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

inline json added_token(int id, const std::string& content, const json& changes = json::object()) {
  json token = {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", true}};
  token.update(changes);
  return token;
}

inline std::unique_ptr<Tokenizer> open_document(const json& document) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", document.dump());
  return open_tokenizer(folder.path());
}

inline Ids ids_of(const json& document, const std::string& text, bool special = false) {
  return open_document(document)->encode(text, special);
}

/// Id i + 1 for a piece equal to pieces[i], 0 for any other: shows where a pre-tokenizer cut.
inline json whole_pieces(const std::vector<std::string>& pieces) {
  std::vector<std::string> tokens = {"?"};
  tokens.insert(tokens.end(), pieces.begin(), pieces.end());
  json document = bpe_document(tokens, {});
  document["model"]["ignore_merges"] = true;
  document["model"]["unk_token"] = "?";
  document["model"]["fuse_unk"] = true;
  return document;
}

}  // namespace lathe::test
