// model.safetensors.index.json, of a folder with two shards.
#include "formats/safetensors/checkpoint.h"
#include "formats/safetensors/safetensors_header.h"
#include "tests/fuzz/fuzz.h"

namespace {

/// One tensor of two bytes.
std::string shard(const char* tensor) {
  return lathe::format_safetensors_header({{{tensor, {lathe::DType::F16, {1}}}}}) + "12";
}

const lathe::fuzz::Folder& folder() {
  static const lathe::fuzz::Folder made;
  static const bool filled = [] {
    made.put("config.json", R"({"model_type": "llama"})");
    made.put("model-00001-of-00002.safetensors", shard("a"));
    made.put("model-00002-of-00002.safetensors", shard("b"));
    return true;
  }();
  static_cast<void>(filled);
  return made;
}

}  // namespace

void lathe::fuzz::read(std::string_view input) {
  folder().put("model.safetensors.index.json", input);
  const Checkpoint checkpoint = Checkpoint::open(folder().path());
  for (const auto& [name, info] : checkpoint.tensors()) checkpoint.view(name);
}
