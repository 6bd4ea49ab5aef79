// Faults in compressed-tensors, its configuration and its files.
#include <ATen/ATen.h>

#include <cmath>

#include "tests/unit/apps/quantize/faults.h"

namespace lathe::test {

std::vector<Fault> packed_faults() {
  const char* at = "words/compressed-tensors";
  const std::string packed = q + ".weight_packed", scale = q + ".weight_scale",
                    zero = q + ".weight_zero_point";
  return {
      {at, "a bit of a code", "q_proj", "meant", "", "", in_tensor(packed, flipped(5, 3))},
      {at, "a bit of a scale", "q_proj", "meant", "distance", "", in_tensor(scale, flipped(1, 4))},
      {at, "a bit of a zero point", "q_proj", "meant", "distance", "", in_tensor(zero, flipped(0, 3))},
      {at, "a scale of zero", "q_proj", "numbers", "numbers", "numbers", in_tensor(scale, first_is(0))},
      {at, "a scale that is NaN", "q_proj", "numbers", "numbers", "numbers", in_tensor(scale, first_is(NAN))},
      {at, "an infinite scale", "q_proj", "numbers", "numbers", "numbers",
       in_tensor(scale, first_is(INFINITY))},
      {at, "a negative scale", "q_proj", "numbers", "numbers", "numbers",
       in_tensor(scale, [](Tensor& t) { t.flatten()[3].neg_(); })},
      {at, "scales as reciprocals", "q_proj", "meant", "distance", "",
       in_tensor(scale, [](Tensor& t) { t = t.reciprocal(); })},
      {at, "scales of another row", "q_proj", "meant", "", "",
       in_tensor(scale, [](Tensor& t) { t = t.roll(1, 0).contiguous(); })},
      {at, "zero points off by one", "q_proj", "meant", "distance", "",
       in_tensor(zero, [](Tensor& t) { t = (t + 0x11111111).contiguous(); })},
      {at, "zero points all zero", "q_proj", "meant", "distance", "",
       in_tensor(zero, [](Tensor& t) { t.zero_(); })},
      {at, "a constant group", "q_proj", "flattened", "flattened", "",
       in_tensor(packed, [](Tensor& t) { t[7].slice(0, 4, 8).fill_(0x33333333); })},
      {at, "codes all zero", "q_proj", "flattened", "flattened", "",
       in_tensor(packed, [](Tensor& t) { t.zero_(); })},
      {at, "q and o trade places", o.c_str(), "meant", "distance", "", swapped(q, o)},
      {at, "k and v trade places", "nearest to the weights of model.layers.0.self_attn.v_proj", "distance",
       "distance", "", swapped(k, v)},
      {at, "codes of two layers trade places", "layers.1.mlp.up_proj", "meant", "distance", "",
       in_tensors([](Tensors& t) {
         std::swap(t.at("model.layers.0.mlp.up_proj.weight_packed"), t.at(up + ".weight_packed"));
       })},
      {at, "a layer twice", "layers.1.mlp.gate_proj", "duplicates", "duplicates", "duplicates",
       copied("model.layers.0.mlp.gate_proj", gate)},
      {at, "a packed tensor that is missing", "q_proj.weight_packed", "layout", "layout", "layout",
       dropped(packed)},
      {at, "scales that are missing", "q_proj.weight_scale", "layout", "layout", "layout", dropped(scale)},
      {at, "a linear that is missing", "self_attn.q_proj", "layout", "layout", "layout", dropped(q)},
      {at, "a norm that is missing", "layers.1.input_layernorm", "accounted", "layout", "layout",
       dropped(norm)},
      {at, "a tensor too many", "model.layers.0.more", "accounted", "accounted", "",
       in_tensors([](Tensors& t) { t["model.layers.0.more.weight"] = at::ones({4}, at::kHalf); })},
      {at, "a transposed tensor", "q_proj.weight_packed", "layout", "layout", "layout",
       in_tensor(q + ".weight_packed", [](Tensor& t) { t = t.t().contiguous(); })},
      {at, "scales of another type", "q_proj.weight_scale", "layout", "layout", "layout",
       in_tensor(scale, [](Tensor& t) { t = t.to(at::kFloat); })},
      {at, "an empty tensor", "layers.1.input_layernorm", "accounted", "layout", "layout",
       in_tensor(norm, [](Tensor& t) { t = at::empty({0}, at::kHalf); })},
      {at, "a bit of a norm", "layers.1.input_layernorm", "kept", "kept", "",
       in_tensor(norm, flipped(20, 7))},
      {at, "a NaN in a norm", "layers.1.input_layernorm", "kept", "kept", "numbers",
       in_tensor(norm, first_is(NAN))},
      {at, "a norm of ones", "layers.1.input_layernorm", "kept", "kept", "",
       in_tensor(norm, [](Tensor& t) { t.fill_(1); })},
      {at, "a bit of the embedding", "embed_tokens", "kept", "kept", "",
       in_tensor(embedding, flipped(777, 6))},
      {at, "two rows of the embedding trade places", "embed_tokens", "kept", "kept", "",
       in_tensor(embedding,
                 [](Tensor& t) {
                   const Tensor row = t[3].clone();
                   t[3].copy_(t[4]);
                   t[4].copy_(row);
                 })},
      {at, "an infinity in the embedding", "embed_tokens", "kept", "kept", "numbers",
       in_tensor(embedding, first_is(INFINITY))},
      {at, "weight_shape says something else", "q_proj.weight_shape", "layout", "layout", "layout",
       in_tensor(q + ".weight_shape", first_is(7))},
  };
}

std::vector<Fault> config_faults() {
  const char* at = "words/compressed-tensors";
  const std::string weights = "/config_groups/group_0/weights/";
  return {
      {at, "bits", "q_proj", "layout", "layout", "layout", in_quantization(weights + "num_bits", 8)},
      {at, "group size", "q_proj", "layout", "layout", "layout", in_quantization(weights + "group_size", 64)},
      {at, "symmetric", "zero_point", "layout", "layout", "layout",
       in_quantization(weights + "symmetric", true)},
      {at, "nothing is ignored", "ignore", "config", "config", "config",
       in_quantization("/ignore", Json::array())},
      {at, "a quantised linear is ignored", "q_proj", "layout", "layout", "layout",
       in_quantization("/ignore", Json{"lm_head", q})},
      {at, "another method", "quant", "layout", "layout", "layout", in_quantization("/quant_method", "gptq")},
      {at, "another status", "quantization_status", "layout", "layout", "layout",
       in_quantization("/quantization_status", "frozen")},
      {at, "fewer layers", "num_hidden_layers", "config", "layout", "layout",
       in_config("num_hidden_layers", 1)},
      {at, "more layers", "num_hidden_layers|layers.2", "config", "layout", "layout",
       in_config("num_hidden_layers", 3)},
      {at, "fewer heads", "num_attention_heads|q_proj", "config", "layout", "layout",
       in_config("num_attention_heads", 2)},
      {at, "another epsilon", "rms_norm_eps", "config", "config", "", in_config("rms_norm_eps", 1e-3)},
      {at, "another rope", "rope_theta", "config", "config", "",
       in_json("config.json", [](Json& c) { c["rope_parameters"]["rope_theta"] = 500000.0; })},
      {at, "another type", "dtype", "config", "layout", "layout", in_config("dtype", "bfloat16")},
      {at, "no quantization_config", "quantization_config|down_proj.weight", "layout", "layout", "layout",
       in_json("config.json", [](Json& c) { c.erase("quantization_config"); })},
      {at, "no tokenizer", "tokenizer.json", "files", "files", "",
       [](const fs::path& f) { fs::remove(f / "tokenizer.json"); }},
      {at, "another tokenizer", "tokenizer.json", "files", "files", "",
       in_json("tokenizer.json", [](Json& t) { t["version"] = "2.0"; })},
  };
}

std::vector<Fault> file_faults() {
  const char* at = "shards";
  const auto cut = [](uint64_t less) {
    return [less](const fs::path& f) { fs::resize_file(shard(f, 1), fs::file_size(shard(f, 1)) - less); };
  };
  const auto in_index = [](const std::function<void(Json&)>& change) { return in_json(kIndex, change); };
  return {
      {at, "a shard that lost its last bytes", "model-00002-of-", "files", "files", "files", cut(10)},
      {at, "a shard that lost most of it", "model-00002-of-", "files", "files", "files", cut(100'000)},
      {at, "an empty shard", "model-00002-of-", "files", "files", "files",
       [](const fs::path& f) { fs::resize_file(shard(f, 1), 0); }},
      {at, "a shard that is missing", "model-00002-of-", "files", "files", "files",
       [](const fs::path& f) { fs::remove(shard(f, 1)); }},
      {at, "an index that names a missing file", "q_proj", "files", "files", "files",
       in_index([](Json& i) { i["weight_map"][q + ".weight_packed"] = "model-00099-of-00099.safetensors"; })},
      {at, "an index that names the wrong shard", "q_proj.weight_packed", "files", "files", "files",
       [](const fs::path& f) {
         edit_json(f / kIndex, [&](Json& i) {
           Json& file = i["weight_map"][q + ".weight_packed"];
           const std::string first = shard(f, 0).filename().string(), other = shard(f, 1).filename().string();
           file = file == first ? other : first;
         });
       }},
      {at, "an index without one tensor", "q_proj.weight_scale", "files", "files", "files",
       in_index([](Json& i) { i["weight_map"].erase(q + ".weight_scale"); })},
      {at, "an index with one tensor more", "model.more", "files", "files", "files",
       [](const fs::path& f) {
         edit_json(f / kIndex,
                   [&](Json& i) { i["weight_map"]["model.more"] = shard(f, 0).filename().string(); });
       }},
      {at, "a total size that is wrong", "total_size", "files", "files", "files",
       in_index([](Json& i) { i["metadata"]["total_size"] = 5; })},
      {at, "a stale shard beside", "model-00099", "files", "files", "files",
       [](const fs::path& f) {
         write_shard(f / "model-00099-of-00099.safetensors", {{"old", at::ones({2})}});
       }},
      {at, "a tensor in two shards", "model.norm.weight", "files", "files", "files",
       [](const fs::path& f) {
         for (const size_t n : {0, 1}) {
           Tensors tensors = read_safetensors(shard(f, n));
           tensors["model.norm.weight"] = at::ones({128}, at::kHalf);
           write_shard(shard(f, n), tensors);
         }
       }},
      {at, "a header of noise", "model-00002-of-", "files", "files", "files",
       [](const fs::path& f) {
         std::fstream file(shard(f, 1), std::ios::binary | std::ios::in | std::ios::out);
         file.seekp(20);
         file << "\xff\xff\xff\xff";
       }},
      {at, "no index", "model-00001-of-", "files", "files", "files",
       [](const fs::path& f) { fs::remove(f / kIndex); }},
  };
}

}  // namespace lathe::test
