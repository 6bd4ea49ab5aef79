// Content hashes: for the ids that calibrated a run, and for comparing what was written with what was meant.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace lathe {

/// "xxh3-128:" and 32 hex digits: what `xxhsum -H2` prints for the same bytes.
std::string content_hash(std::span<const std::byte> bytes);

/// The same of bytes that come in pieces.
class ContentHasher {
 public:
  ContentHasher();
  ~ContentHasher();
  void add(std::span<const std::byte> piece);
  std::string text() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The same of a whole file, read piece by piece: memory doesn't grow with it. UserError naming the file.
std::string content_hash_of_file(const std::filesystem::path& path);

}  // namespace lathe
