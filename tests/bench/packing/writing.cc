#include "tests/bench/packing/writing.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "formats/safetensors/shard_writer.h"
#include "lib/base/error.h"

namespace lathe::bench {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTensorBytes = int64_t{8} << 20;
constexpr size_t kRounds = 3;

/// Goes away with what is in it.
class Folder {
 public:
  explicit Folder(const fs::path& parent) {
    std::string pattern = (parent / "lathe-write-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr)
      user_error("{}: can't be written: {}", parent.string(), std::generic_category().message(errno));
    path_ = pattern;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

std::vector<std::byte> noise() {
  std::vector<std::byte> bytes(kTensorBytes);
  std::mt19937_64 random(1);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

void write_plainly(const fs::path& file, std::span<const std::byte> bytes, int64_t count) {
  const int target = open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  bool good = target >= 0;
  for (int64_t i = 0; good && i < count; ++i)
    good = write(target, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  good = good && fsync(target) == 0;
  const int reason = errno;
  if (target >= 0) close(target);
  if (!good) user_error("{}: can't be written: {}", file.string(), std::generic_category().message(reason));
}

void write_shards(const fs::path& folder, std::span<const std::byte> bytes, int64_t count) {
  std::vector<PlannedTensor> planned;
  for (int64_t i = 0; i < count; ++i)
    planned.push_back({fmt::format("model.layers.{}.weight", i), {DType::U8, {kTensorBytes}}});
  ShardWriter writer(plan_shards(planned, uint64_t{5} << 30), folder);
  for (const PlannedTensor& tensor : planned) writer.write(tensor.name, bytes);
  writer.finish();
}

template <class Work>
double seconds_of(Work&& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::array<double, kRounds> times) {
  std::ranges::sort(times);
  return times[kRounds / 2];
}

}  // namespace

nlohmann::json measure_writing(const fs::path& folder, int64_t megabytes) {
  const std::vector<std::byte> bytes = noise();
  const int64_t count = std::max<int64_t>(1, (megabytes << 20) / kTensorBytes);
  const double total = static_cast<double>(count * kTensorBytes) / 1e9;
  std::array<double, kRounds> ours{}, plain{};
  for (size_t round = 0; round < kRounds; ++round) {
    const Folder one(folder), other(folder);
    plain[round] = seconds_of([&] { write_plainly(other.path() / "bytes", bytes, count); });
    ours[round] = seconds_of([&] { write_shards(one.path(), bytes, count); });
  }
  return {{"megabytes", megabytes},
          {"write_gb_per_second", total / median(ours)},
          {"disk_gb_per_second", total / median(plain)}};
}

}  // namespace lathe::bench
