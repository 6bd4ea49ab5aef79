// Builds small checkpoint folders, whole or broken, for the tests of this folder.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "formats/safetensors/checkpoint.h"
#include "lib/base/error.h"

namespace lathe::test {

namespace fs = std::filesystem;

/// A folder of this test's own, removed at the end.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const fs::path& parent = fs::temp_directory_path()) {
    std::string pattern = (parent / "lathe-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp: " + pattern);
    path_ = pattern;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

inline void put(const fs::path& path, const std::string& contents) {
  std::ofstream(path, std::ios::binary) << contents;
}

inline std::string get(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::string length_bytes(uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

/// A safetensors file with this header text, taken as it is, and so many bytes of data.
inline std::string shard_file(const std::string& header, size_t data_bytes) {
  std::string data(data_bytes, '\0');
  for (size_t i = 0; i < data_bytes; ++i) data[i] = static_cast<char>('A' + i % 26);
  return length_bytes(header.size()) + header + data;
}

/// A shard that holds one F16 [2, 3] tensor for each name.
inline std::string shard_of(const std::vector<std::string>& names) {
  nlohmann::json header = nlohmann::json::object();
  size_t offset = 0;
  for (const std::string& name : names) {
    header[name] = {{"dtype", "F16"}, {"shape", {2, 3}}, {"data_offsets", {offset, offset + 12}}};
    offset += 12;
  }
  return shard_file(header.dump(), offset);
}

/// The message of the UserError that opening the folder ends in; a failure of the test if it doesn't.
inline std::string open_error(const fs::path& folder) {
  try {
    Checkpoint::open(folder);
  } catch (const UserError& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "expected a UserError, got " << error.what();
    return {};
  }
  ADD_FAILURE() << "was accepted";
  return {};
}

/// A message is one printable line, short enough to be read, that names the file and says what is wrong.
inline void check_message(const std::string& message, const std::string& file, const std::string& wanted) {
  EXPECT_NE(message.find(wanted), message.npos) << "wanted: " << wanted << "\nmessage: " << message;
  EXPECT_NE(message.find(file), message.npos) << "wanted the file " << file << "\nmessage: " << message;
  EXPECT_LT(message.size(), 700u) << message;
  for (const char c : message) EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7F) << message;
}

}  // namespace lathe::test
