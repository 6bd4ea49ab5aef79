// dequantize ARTEFACT OUT
// Writes the floating-point model that an artefact stands for (FP32), through Lathe's own reader, so that
// loaders can score formats that they don't load themselves.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "formats/safetensors/shard_writer.h"
#include "formats/targets/model_folder.h"
#include "formats/targets/packed_reader.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/tensor/aten.h"

namespace {

namespace fs = std::filesystem;

void write_weights(const lathe::ModelFolder& folder, const fs::path& out) {
  std::vector<lathe::PlannedTensor> planned;
  for (const auto& [name, info] : folder.packed->unpacked_tensors())
    planned.push_back({name, {lathe::DType::F32, info.shape}});
  lathe::ShardWriter shards(lathe::plan_shards(planned, uint64_t{1} << 40), out);
  for (const lathe::PlannedTensor& tensor : planned)
    shards.write(tensor.name, lathe::bytes_of(folder.weights->load(tensor.name).contiguous()));
  shards.finish();
}

void write_side_files(const fs::path& from, const fs::path& out) {
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file() || name == "config.json" || name.starts_with("model")) continue;
    fs::copy_file(entry.path(), out / name);
  }
  auto config = nlohmann::json::parse(lathe::read_text_file(from / "config.json"));
  config.erase("quantization_config");
  config["torch_dtype"] = config["dtype"] = "float32";
  lathe::write_file(out / "config.json", config.dump(2) + "\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: dequantize ARTEFACT OUT\n");
    return 2;
  }
  try {
    const lathe::ModelFolder folder = lathe::open_model_folder(argv[1]);
    if (!folder.quantized) lathe::user_error("{}: is not quantised", argv[1]);
    fs::create_directories(argv[2]);
    write_weights(folder, argv[2]);
    write_side_files(argv[1], argv[2]);
  } catch (const std::exception& error) {
    fmt::print(stderr, "dequantize: {}\n", error.what());
    return 2;
  }
  return 0;
}
