#include "lib/base/hash.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <memory>

#include "lib/base/cancel.h"
#include "lib/base/file.h"

namespace lathe {

namespace {

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

void ContentHasher::add(std::span<const std::byte> piece) {
  XXH3_128bits_update(state_->xxh.get(), piece.data(), piece.size());
}

std::string ContentHasher::text() const { return text_of(XXH3_128bits_digest(state_->xxh.get())); }

std::string content_hash_of_file(const std::filesystem::path& path) {
  constexpr size_t kPiece = size_t{4} << 20;
  if (std::filesystem::file_size(path) == 0) return content_hash({});
  const MappedFile file = MappedFile::open(path);
  ContentHasher hasher;
  for (size_t at = 0; at < file.bytes().size(); at += kPiece) {
    throw_if_cancelled();
    const auto piece = file.bytes().subspan(at, std::min(kPiece, file.bytes().size() - at));
    hasher.add(piece);
    file.release(piece);
  }
  return hasher.text();
}

}  // namespace lathe
