#include "lib/base/hash.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "lib/base/cancel.h"
#include "lib/base/file.h"

namespace lathe {

namespace {

constexpr size_t kPiece = size_t{4} << 20;

std::string text_of(const XXH128_hash_t& hash) {
  return fmt::format("xxh3-128:{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace

std::string content_hash(std::span<const std::byte> bytes) {
  return text_of(XXH3_128bits(bytes.data(), bytes.size()));
}

struct ContentHasher::State {
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> xxh{XXH3_createState(), &XXH3_freeState};
};

ContentHasher::ContentHasher() : state_(std::make_unique<State>()) { XXH3_128bits_reset(state_->xxh.get()); }
ContentHasher::~ContentHasher() = default;

void ContentHasher::add(std::span<const std::byte> bytes) {
  XXH3_128bits_update(state_->xxh.get(), bytes.data(), bytes.size());
}

std::string ContentHasher::text() const { return text_of(XXH3_128bits_digest(state_->xxh.get())); }

ContentHasher::Digest ContentHasher::digest() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_->xxh.get()));
  Digest digest;
  std::memcpy(digest.data(), canonical.digest, digest.size());
  return digest;
}

std::string content_hash_in_pieces(std::span<const std::byte> bytes,
                                   const std::function<void(std::span<const std::byte>)>& release) {
  ContentHasher hasher;
  for (size_t at = 0; at < bytes.size(); at += kPiece) {
    throw_if_cancelled();
    const auto piece = bytes.subspan(at, std::min(kPiece, bytes.size() - at));
    hasher.add(piece);
    release(piece);
  }
  return hasher.text();
}

std::string content_hash_of_file(const std::filesystem::path& path) {
  if (std::filesystem::file_size(path) == 0) return content_hash({});
  const MappedFile file = MappedFile::open(path);
  return content_hash_in_pieces(file.bytes(), [&](auto piece) { file.release(piece); });
}

}  // namespace lathe
