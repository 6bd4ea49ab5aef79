#include "tests/bench/calibration/bench_model.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "formats/targets/model_folder.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "lib/model/compute_dtype.h"

namespace lathe::bench {
namespace {

struct Shape {
  int64_t hidden, inter, layers, heads, kv_heads, head_dim;
};

ModelGraph llama(const Shape& shape) {
  const nlohmann::json config = {{"model_type", "llama"},
                                 {"vocab_size", 256},
                                 {"hidden_size", shape.hidden},
                                 {"intermediate_size", shape.inter},
                                 {"num_hidden_layers", shape.layers},
                                 {"num_attention_heads", shape.heads},
                                 {"num_key_value_heads", shape.kv_heads},
                                 {"head_dim", shape.head_dim},
                                 {"max_position_embeddings", 8192},
                                 {"rms_norm_eps", 1e-5},
                                 {"torch_dtype", "bfloat16"},
                                 {"rope_theta", 500000.0},
                                 {"hidden_act", "silu"},
                                 {"tie_word_embeddings", true}};
  return build_graph(parse_model_config(config, "the benchmark's config"));
}

uint64_t seed_of(const std::string& name) {  // FNV-1a
  uint64_t hash = 14695981039346656037ull;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return hash;
}

BenchModel seeded(const std::string& name, const Shape& shape, int64_t context, int64_t batch,
                  int64_t samples, c10::Device device) {
  BenchModel model{name, "seed", llama(shape), nullptr, context, batch, samples};
  model.weights = std::make_shared<SeededWeights>(model.graph, device);
  return model;
}

BenchModel from_folder(const std::string& name, const std::string& path, int64_t context, int64_t batch) {
  auto folder = std::make_shared<ModelFolder>(open_model_folder(path));
  BenchModel model{name, "folder", folder->graph, nullptr, context, batch, 0};
  model.weights = std::shared_ptr<const WeightSource>(folder, folder->weights.get());
  return model;
}

}  // namespace

at::Tensor SeededWeights::load(const std::string& name) const {
  const std::vector<int64_t>& shape = shapes_.at(name);
  at::manual_seed(seed_of(name));
  const at::Tensor noise = at::randn(shape, at::TensorOptions().dtype(at::kFloat).device(device_));
  return shape.size() == 2 ? noise / std::sqrt(static_cast<double>(shape[1])) : 1 + 0.1 * noise;
}

const std::vector<std::string>& model_names() {
  static const std::vector<std::string> kNames = {"smollm2", "block4096", "8b"};
  return kNames;
}

BenchModel make_model(const std::string& name, const std::string& folder, bool quick, c10::Device device) {
  const Shape smollm2{576, 1536, quick ? 2 : 30, 9, 3, 64};
  const Shape llama8b = quick ? Shape{256, 896, 1, 8, 2, 32} : Shape{4096, 14336, 1, 32, 8, 128};
  // On a GPU as many samples at once as the whole model takes, or 32,768 tokens of the small one: launches
  // and waits must not be what is measured.
  const int64_t small_batch = device.is_cpu() ? 4 : 64;
  if (name == "smollm2" && !folder.empty() && !quick) return from_folder(name, folder, 512, small_batch);
  if (name == "smollm2") return seeded(name, smollm2, quick ? 64 : 512, quick ? 4 : small_batch, 0, device);
  if (name == "block4096")
    return seeded(name, llama8b, quick ? 256 : 2048, device.is_cpu() ? 1 : 4, 0, device);
  if (name == "8b") {
    Shape shape = llama8b;
    shape.layers = quick ? 2 : 32;
    return seeded(name, shape, quick ? 256 : 2048, quick ? 1 : 4, quick ? 2 : 128, device);
  }
  user_error("--model {}: expected one of {}", name, join_words(model_names()));
}

DType compute_dtype(const BenchModel& model, c10::Device device) {
  return resolve_compute_dtype("auto", device, model.graph.config.dtype);
}

std::shared_ptr<const WeightSource> host_weights(const BenchModel& model) {
  return model.weights_from == "seed" ? std::make_shared<SeededWeights>(model.graph, at::kCPU)
                                      : model.weights;
}

at::Tensor first_hidden(const BenchModel& model, c10::Device device) {
  at::manual_seed(1);
  const int64_t vocab = model.graph.config.vocab_size;
  const at::Tensor ids = at::randint(vocab, {model.batch, model.context}, at::kLong);
  if (model.weights_from == "seed")
    return at::randn({model.batch, model.context, model.graph.config.hidden_size}).to(device);
  return embed(model.graph, model.weights->load(model.graph.embedding + ".weight"), ids).to(device);
}

double linear_flops(const BenchModel& model) {
  double products = 0;
  for (const Linear& linear : model.graph.blocks.front().linears)
    products += static_cast<double>(linear.out) * static_cast<double>(linear.in);
  return 2 * products * static_cast<double>(model.tokens());
}

double attention_flops(const BenchModel& model) {
  const double pairs = 0.5 * static_cast<double>(model.context) * static_cast<double>(model.context + 1);
  return 4 * static_cast<double>(model.batch) * pairs *
         static_cast<double>(model.graph.config.num_heads * model.graph.config.head_dim);
}

double gram_flops(const BenchModel& model) {
  double pairs = 0;
  for (const Slot slot : kSlots) {
    const auto width = static_cast<double>(width_of(model.graph.blocks.front(), slot));
    pairs += 0.5 * width * (width + 1);
  }
  return 2 * pairs * static_cast<double>(model.tokens());
}

at::Tensor run_stages(const BlockForward& forward, const at::Tensor& hidden,
                      const std::function<void(Slot slot, const at::Tensor& x)>& observe) {
  const at::Tensor x = forward.attention_in(hidden);
  observe(Slot::attention_in, x);
  const at::Tensor a = forward.attention_out(x);
  observe(Slot::attention_out, a);
  const at::Tensor h = forward.add_attention(hidden, a);
  const at::Tensor y = forward.mlp_in(h);
  observe(Slot::mlp_in, y);
  const at::Tensor z = forward.mlp_mid(y);
  observe(Slot::mlp_mid, z);
  return forward.add_mlp(h, z);
}

}  // namespace lathe::bench
