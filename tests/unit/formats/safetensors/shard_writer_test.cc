#include "formats/safetensors/shard_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/statfs.h>

#include <algorithm>
#include <csignal>
#include <random>

#include "tests/unit/formats/safetensors/checkpoint_files.h"

namespace lathe::test {
namespace {

using testing::HasSubstr;

std::vector<std::byte> random_bytes(size_t count, std::mt19937& random) {
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

/// Odd sizes, a scalar, an empty tensor, names that JSON must escape.
std::vector<PlannedTensor> mixed_tensors() {
  return {{"a.weight", {DType::F16, {7, 3}}},
          {"b\"\\é.weight", {DType::U8, {5}}},
          {"scalar", {DType::F32, {}}},
          {"empty", {DType::BF16, {0, 4}}},
          {"c.weight_packed", {DType::I32, {9}}},
          {"c.weight_shape", {DType::I64, {2}}},
          {"d.scale", {DType::F8_E4M3, {3, 1}}},
          {"e", {DType::BOOL, {1}}},
          {"f.weight", {DType::BF16, {100, 100}}},
          {"g.weight", {DType::F64, {2}}}};
}

/// Writes random contents in a random order, reads them back through Checkpoint and compares everything.
void round_trip(const std::vector<PlannedTensor>& tensors, uint64_t shard_size, const fs::path& folder,
                uint32_t seed) {
  std::mt19937 random(seed);
  std::map<std::string, std::vector<std::byte>> contents;
  for (const PlannedTensor& tensor : tensors)
    contents[tensor.name] = random_bytes(tensor.info.nbytes(), random);
  std::vector<PlannedTensor> order = tensors;
  std::shuffle(order.begin(), order.end(), random);

  put(folder / "config.json", "{}");
  ShardWriter writer(plan_shards(tensors, shard_size), folder);
  for (const PlannedTensor& tensor : order) writer.write(tensor.name, contents.at(tensor.name));
  writer.finish();

  const Checkpoint checkpoint = Checkpoint::open(folder);
  ASSERT_EQ(checkpoint.tensors().size(), tensors.size());
  for (const PlannedTensor& tensor : tensors) {
    const TensorView view = checkpoint.view(tensor.name);
    EXPECT_EQ(view.info, tensor.info) << tensor.name;
    EXPECT_TRUE(std::ranges::equal(view.bytes, contents.at(tensor.name))) << tensor.name;
  }
}

TEST(ShardWriter, RoundTripsOneFile) {
  const TemporaryFolder folder;
  round_trip(mixed_tensors(), 1'000'000, folder.path(), 1);
  EXPECT_TRUE(fs::exists(folder / "model.safetensors"));
  EXPECT_FALSE(fs::exists(folder / "model.safetensors.index.json"));
}

TEST(ShardWriter, RoundTripsManyShardsAndWritesTheIndex) {
  const TemporaryFolder folder;
  round_trip(mixed_tensors(), 64, folder.path(), 2);
  const auto index = nlohmann::json::parse(get(folder / "model.safetensors.index.json"));
  uint64_t total = 0;
  for (const PlannedTensor& tensor : mixed_tensors()) total += tensor.info.nbytes();
  EXPECT_EQ(index.at("metadata").at("total_size"), total);
  EXPECT_EQ(index.at("weight_map").size(), mixed_tensors().size());
  EXPECT_EQ(index.at("weight_map").at("a.weight"), "model-00001-of-00004.safetensors");
  EXPECT_EQ(index.at("weight_map").at("g.weight"), "model-00004-of-00004.safetensors");
}

TEST(ShardWriter, RoundTripsMoreShardsThanDescriptors) {
  const TemporaryFolder folder;
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const rlimit few{40, limit.rlim_max};
  setrlimit(RLIMIT_NOFILE, &few);
  std::vector<PlannedTensor> tensors;
  for (int i = 0; i < 100; ++i) tensors.push_back({"t" + std::to_string(i), {DType::U8, {3}}});
  EXPECT_NO_THROW({
    ShardWriter writer(plan_shards(tensors, 3), folder.path());
    for (const PlannedTensor& tensor : tensors) writer.write(tensor.name, std::vector<std::byte>(3));
    writer.finish();
  });
  setrlimit(RLIMIT_NOFILE, &limit);
  EXPECT_TRUE(fs::exists(folder / "model-00100-of-00100.safetensors"));
}

TEST(ShardWriter, HeaderIsAlignedAndDataContiguousInPlanOrder) {
  for (size_t length = 1; length <= 9; ++length) {
    const TemporaryFolder folder;
    const std::string first(length, 'z');
    ShardWriter writer(plan_shards({{first, {DType::U8, {3}}}, {"a", {DType::F32, {1}}}}, 100),
                       folder.path());
    const std::string file = get(folder / "model.safetensors");
    uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, file.data(), 8);
    EXPECT_EQ(header_bytes % 8, 0u) << length;
    EXPECT_EQ(file.size(), 8 + header_bytes + 7) << "full length from the start";
    const auto header = nlohmann::json::parse(file.substr(8, header_bytes));
    EXPECT_EQ(header.at("__metadata__"), (nlohmann::json{{"format", "pt"}}));
    EXPECT_EQ(header.at(first).at("data_offsets"), nlohmann::json({0, 3}));
    EXPECT_EQ(header.at("a").at("data_offsets"), nlohmann::json({3, 7}));
    EXPECT_EQ(header.at("a").at("shape"), nlohmann::json::array({1}));
    EXPECT_EQ(header.at("a").at("dtype"), "F32");
  }
}

TEST(ShardWriter, TensorsOfUnknownLengthStandInAShardOfTheirOwn) {
  const TemporaryFolder folder;
  std::mt19937 random(5);
  const std::vector<PlannedTensor> plan = {{"a", {DType::I32, {1000000, 2}}, true},
                                           {"b", {DType::F32, {2}}},
                                           {"none", {DType::I32, {1000}}, true},
                                           {"c", {DType::I32, {1000}}, true}};
  const ShardPlan shards = plan_shards(plan, 1000);
  EXPECT_EQ(shards.total_bytes, 8u);
  ShardWriter writer(shards, folder.path());
  const auto a = random_bytes(24, random), b = random_bytes(8, random), c = random_bytes(4000, random);
  writer.write("c", c);
  writer.write("none", {});
  writer.write("b", b);
  writer.write("a", a);
  writer.finish();
  EXPECT_EQ(writer.bytes_written(), 24u + 8 + 4000);
  put(folder.path() / "config.json", "{}");
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_TRUE(std::ranges::equal(checkpoint.view("a").bytes, a));
  EXPECT_TRUE(std::ranges::equal(checkpoint.view("b").bytes, b));
  EXPECT_TRUE(std::ranges::equal(checkpoint.view("c").bytes, c));
  EXPECT_EQ(checkpoint.tensors().at("a").shape, (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(checkpoint.tensors().at("none").shape, (std::vector<int64_t>{0}));
  EXPECT_EQ(checkpoint.file_of("b"), "model-00001-of-00002.safetensors");
  EXPECT_EQ(checkpoint.file_of("a"), "model-00002-of-00002.safetensors");
}

// ---- Broken promises of the caller.

std::string internal_message(const std::function<void()>& action) {
  try {
    action();
  } catch (const InternalError& error) {
    return error.what();
  }
  return "no InternalError";
}

TEST(ShardWriter, LargeTensorsAreWrittenPieceByPiece) {
  const TemporaryFolder folder;
  std::mt19937 random(3);
  const std::vector<std::byte> bytes = random_bytes((size_t{20} << 20) + 3, random);
  put(folder.path() / "config.json", "{}");
  ShardWriter writer(plan_shards({{"head", {DType::U8, {int64_t(bytes.size())}}}}, 1 << 30), folder.path());
  size_t done = 0, pieces = 0;
  writer.write("head", bytes, [&](std::span<const std::byte> piece) {
    EXPECT_EQ(piece.data(), bytes.data() + done) << "pieces come in order";
    EXPECT_LE(piece.size(), size_t{16} << 20);
    done += piece.size();
    ++pieces;
  });
  writer.finish();
  EXPECT_EQ(done, bytes.size());
  EXPECT_GT(pieces, 1u);
  EXPECT_TRUE(std::ranges::equal(Checkpoint::open(folder.path()).view("head").bytes, bytes));
}

TEST(ShardWriter, RefusesWhatAnOpenTensorCantHold) {
  const TemporaryFolder folder;
  ShardWriter writer(plan_shards({{"a", {DType::I32, {2}}, true}}, 100), folder.path());
  EXPECT_THAT(internal_message([&] { writer.write("a", std::vector<std::byte>(12)); }),
              HasSubstr("8 bytes planned"));
  EXPECT_THAT(internal_message([&] { writer.write("a", std::vector<std::byte>(3)); }),
              HasSubstr("multiple of 4"));
}

TEST(ShardWriter, RefusesWhatWasNotPlanned) {
  const TemporaryFolder folder;
  const std::vector<std::byte> four(4);
  ShardWriter writer(plan_shards({{"a", {DType::F32, {1}}}, {"b", {DType::F32, {1}}}}, 100), folder.path());
  EXPECT_THAT(internal_message([&] { writer.write("c", four); }), HasSubstr("'c' was not planned"));
  EXPECT_THAT(internal_message([&] { writer.write("a", std::span(four).first(3)); }),
              HasSubstr("'a': 4 bytes planned, 3 given"));
  EXPECT_THAT(internal_message([&] { writer.write("a", std::vector<std::byte>(5)); }),
              HasSubstr("'a': 4 bytes planned, 5 given"));
  writer.write("a", four);
  EXPECT_THAT(internal_message([&] { writer.write("a", four); }), HasSubstr("'a' was written before"));
  EXPECT_THAT(internal_message([&] { writer.finish(); }), HasSubstr("'b' was never written"));
  writer.write("b", four);
  EXPECT_NO_THROW(writer.finish());
}

// ---- Disks that don't want it.

/// Files of this process can't grow past a limit: the errors of a full disk, without filling one.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

std::string user_message(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no UserError";
}

const std::vector<PlannedTensor> kMegabyte = {{"a", {DType::U8, {1 << 20}}}};

TEST(ShardWriter, FullDiskIsFoundBeforeAnythingIsWritten) {
  const TemporaryFolder folder;
  const FileSizeLimit limit(100'000);
  const std::string message =
      user_message([&] { ShardWriter(plan_shards(kMegabyte, uint64_t{1} << 30), folder.path()); });
  check_message(message, (folder / "model.safetensors").string(),
                "can't be reserved on the disk: File too large");
}

TEST(ShardWriter, SecondShardDoesNotFit) {
  const TemporaryFolder folder;
  const FileSizeLimit limit(100'000);
  const std::vector<PlannedTensor> tensors = {{"small", {DType::U8, {1000}}},
                                              {"large", {DType::U8, {1 << 20}}}};
  const std::string message = user_message([&] { ShardWriter(plan_shards(tensors, 2000), folder.path()); });
  check_message(message, "model-00002-of-00002.safetensors", "1.0 MiB can't be reserved");
}

TEST(ShardWriter, WriteThatFailsNamesTheFile) {
  const TemporaryFolder folder;
  ShardWriter writer(plan_shards(kMegabyte, uint64_t{1} << 30), folder.path());
  const FileSizeLimit limit(100'000);  // as if the file system had not kept its reservation
  const std::string message = user_message([&] { writer.write("a", std::vector<std::byte>(1 << 20)); });
  check_message(message, "model.safetensors", "can't be written: File too large");
}

TEST(ShardWriter, NoSpaceLeftOnASmallFileSystem) {
  struct statfs info {};
  if (statfs("/dev/shm", &info) != 0 || info.f_type != TMPFS_MAGIC || info.f_blocks == 0) {
    GTEST_SKIP() << "no tmpfs of limited size at /dev/shm";
  }
  // More than the whole file system: tmpfs refuses at once, without filling itself up for other programs.
  const auto bytes = static_cast<int64_t>(info.f_blocks) * info.f_bsize * 2;
  const TemporaryFolder folder("/dev/shm");
  const std::string message = user_message([&] {
    ShardWriter(plan_shards({{"a", {DType::U8, {bytes}}}}, 1), folder.path());
  });
  check_message(message, "model.safetensors", "No space left on device");
}

TEST(ShardWriter, FolderThatCannotBeWritten) {
  const ShardPlan plan = plan_shards(kMegabyte, uint64_t{1} << 30);
  // Permission bits don't bind root: /proc and a file in the folder's place refuse everybody.
  check_message(user_message([&] { ShardWriter(plan, "/proc/self"); }), "/proc/self/model.safetensors",
                "can't be created");
  const TemporaryFolder folder;
  put(folder / "file", "x");
  check_message(user_message([&] { ShardWriter(plan, folder / "file"); }), "file/model.safetensors",
                "can't be created: Not a directory");
  check_message(user_message([&] { ShardWriter(plan, folder / "absent"); }), "absent/model.safetensors",
                "can't be created: No such file or directory");
}

// ---- plan_shards

TEST(PlanShards, KeepsOrderAndSizes) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<PlannedTensor> tensors;
    const size_t count = 1 + random() % 40;
    for (size_t i = 0; i < count; ++i) {
      tensors.push_back({"t" + std::to_string(i), {DType::F16, {static_cast<int64_t>(random() % 100)}}});
    }
    const uint64_t shard_size = 1 + random() % 500;
    const ShardPlan plan = plan_shards(tensors, shard_size);

    size_t next = 0;
    uint64_t total = 0, previous = 0;
    for (const ShardPlan::Shard& shard : plan.shards) {
      ASSERT_FALSE(shard.tensors.empty());
      uint64_t bytes = 0;
      for (const PlannedTensor& tensor : shard.tensors) {
        ASSERT_LT(next, tensors.size());
        EXPECT_EQ(tensor.name, tensors[next++].name);
        bytes += tensor.info.nbytes();
      }
      EXPECT_EQ(shard.bytes, bytes);
      EXPECT_TRUE(bytes <= shard_size || shard.tensors.size() == 1) << bytes << " > " << shard_size;
      if (next > shard.tensors.size()) {
        EXPECT_GT(previous + shard.tensors.front().info.nbytes(), shard_size)
            << "a shard was closed too early";
      }
      previous = bytes;
      total += bytes;
    }
    EXPECT_EQ(next, tensors.size()) << "a tensor was lost";
    EXPECT_EQ(plan.total_bytes, total);
  }
}

TEST(PlanShards, NamesFilesAsTransformersDoes) {
  const std::vector<PlannedTensor> three = {
      {"a", {DType::U8, {4}}}, {"b", {DType::U8, {4}}}, {"c", {DType::U8, {9}}}};
  EXPECT_EQ(plan_shards(three, 17).shards.size(), 1u);
  EXPECT_EQ(plan_shards(three, 17).shards[0].file, "model.safetensors");
  const ShardPlan two = plan_shards(three, 8);
  ASSERT_EQ(two.shards.size(), 2u);
  EXPECT_EQ(two.shards[0].file, "model-00001-of-00002.safetensors");
  EXPECT_EQ(two.shards[0].tensors.size(), 2u);
  EXPECT_EQ(two.shards[1].file, "model-00002-of-00002.safetensors");
  EXPECT_EQ(plan_shards(three, 7).shards.size(), 3u);
}

TEST(PlanShards, RefusesDuplicatesAndTooManyFiles) {
  const std::vector<PlannedTensor> twice = {{"a", {DType::U8, {4}}}, {"a", {DType::U8, {4}}}};
  EXPECT_THAT(internal_message([&] { plan_shards(twice, 100); }), HasSubstr("'a' stands twice"));
  EXPECT_THAT(internal_message([&] { plan_shards({}, 0); }), HasSubstr("shard_size is 0"));
  std::vector<PlannedTensor> many;
  for (int i = 0; i < 100'000; ++i) many.push_back({std::to_string(i), {DType::U8, {2}}});
  EXPECT_THAT(user_message([&] { plan_shards(many, 2); }), HasSubstr("choose a larger shard_size"));
  EXPECT_EQ(plan_shards(many, 4).shards.size(), 50'000u);
}

}  // namespace
}  // namespace lathe::test
