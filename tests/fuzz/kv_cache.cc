// A kv_cache.safetensors, for a model of one block with one KV head of 16 channels.
#include "formats/targets/kv_cache_file.h"

#include <ATen/ATen.h>

#include "lib/base/error.h"
#include "tests/fuzz/fuzz.h"

namespace lathe {
namespace {

constexpr int64_t kChannels = 16;

/// The final norm, by which a file's model is told: ones.
class Ones : public WeightSource {
 public:
  bool contains(const std::string&) const override { return true; }
  at::Tensor load(const std::string&) const override { return at::ones({kChannels}); }
};

ModelGraph one_block() {
  ModelGraph graph;
  graph.config.num_kv_heads = 1;
  graph.config.head_dim = kChannels;
  graph.final_norm() = {.name = "norm", .width = kChannels};
  Block& block = graph.blocks.emplace_back();
  block.prefix = "b";
  Linear& keys = block.linears.emplace_back();
  keys.name = "b.a.k_proj";
  keys.role = LinearRole::k_proj;
  return graph;
}

}  // namespace
}  // namespace lathe

void lathe::fuzz::read(std::string_view input) {
  static const Folder folder;
  static const ModelGraph graph = one_block();
  read_kv_cache_file(folder.put("kv_cache.safetensors", input), graph, Ones());
}
