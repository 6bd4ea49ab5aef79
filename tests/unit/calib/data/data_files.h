// A scratch folder of data files and a tokenizer whose ids are bytes.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "calib/data/token_stream.h"
#include "lib/base/error.h"

namespace lathe::test {

using Ids = std::vector<int64_t>;

/// Every byte is one token; 1 and 2 stand around a text where special tokens are asked for.
class ByteTokenizer : public Tokenizer {
 public:
  std::vector<int64_t> encode(std::string_view text, bool add_special_tokens) const override {
    std::vector<int64_t> ids;
    if (add_special_tokens) ids.push_back(1);
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    if (add_special_tokens) ids.push_back(2);
    return ids;
  }
  std::vector<std::string> pieces() const override { return {}; }
  std::vector<std::string> texts_of(std::span<const int64_t> ids) const override {
    std::vector<std::string> texts;
    for (const int64_t id : ids)
      texts.emplace_back(id < 3 ? "<control>" : std::string(1, static_cast<char>(id)));
    return texts;
  }
  int64_t vocab_size() const override { return 256; }
};

class DataFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              fmt::format("lathe-data-{}-{}-{}", ::getpid(), test->test_suite_name(), test->name());
    std::filesystem::create_directories(folder_);
    encoder_.tokenizer = &tokenizer_;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  DataSource file(const std::string& name, std::string_view contents, std::string field = "") const {
    std::ofstream(folder_ / name, std::ios::binary) << contents;
    return {.path = folder_ / name, .field = std::move(field)};
  }

  /// The ids of each document.
  std::vector<Ids> documents(const DataSource& source) const {
    TokenStream stream;
    Encoder all = encoder_;
    all.min_tokens = 0;
    append(source, 0, all, stream, nullptr);
    std::vector<Ids> result;
    for (const auto& piece : stream.documents)
      result.emplace_back(stream.ids.begin() + piece.begin, stream.ids.begin() + piece.begin + piece.length);
    return result;
  }
  /// The same of a file of ids, of any size.
  static std::vector<Ids> raw_documents(const DataSource& source) {
    std::vector<Ids> result;
    for_each_document(source, nullptr, [&](const Document& document) {
      result.emplace_back(document.ids.begin(), document.ids.end());
    });
    return result;
  }
  /// Each document as text, of ids that are bytes.
  std::vector<std::string> texts(const DataSource& source) const {
    std::vector<std::string> result;
    for (const Ids& ids : documents(source)) result.emplace_back(ids.begin(), ids.end());
    return result;
  }

 public:
  template <class Work>
  static std::string error_of(Work&& work) {
    try {
      work();
    } catch (const UserError& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
      return error.what();
    }
    return "no error";
  }

 protected:
  std::string error(const DataSource& source) const {
    return error_of([&] { documents(source); });
  }

  std::filesystem::path folder_;
  ByteTokenizer tokenizer_;
  Encoder encoder_;
};

}  // namespace lathe::test
