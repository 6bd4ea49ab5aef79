// Content hashes: for the ids that calibrated a run, and for comparing what was written with what was meant.
#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace lathe {

/// "xxh3-128:" and 32 hex digits: what `xxhsum -H2` prints for the same bytes.
std::string content_hash(std::span<const std::byte> bytes);

/// The same of bytes that come in pieces.
class ContentHasher {
 public:
  using Digest = std::array<std::byte, 16>;

  ContentHasher();
  ~ContentHasher();
  ContentHasher(const ContentHasher&) = delete;
  ContentHasher& operator=(const ContentHasher&) = delete;

  void add(std::span<const std::byte> bytes);
  /// Of all that was added so far: as text, and as the 16 bytes that the text's digits spell.
  std::string text() const;
  Digest digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// content_hash() of bytes of a mapped file: each piece is handed to `release`, which lets its memory go,
/// when it has been read. Looks for cancellation in between.
std::string content_hash_in_pieces(std::span<const std::byte> bytes,
                                   const std::function<void(std::span<const std::byte>)>& release);

/// The same of a whole file, read piece by piece: memory doesn't grow with it. UserError naming the file.
std::string content_hash_of_file(const std::filesystem::path& path);

}  // namespace lathe
