// Faults in what other formats in safetensors have of their own, in experts and in folds.
#include <ATen/ATen.h>

#include <cmath>

#include "tests/unit/apps/quantize/faults.h"

namespace lathe::test {

std::vector<Fault> gptq_faults() {
  const char *one = "symmetric/gptq", *two = "words/gptq-v2";
  return {
      {one, "a group index out of range", "q_proj", "unpacked", "unpacked", "unpacked",
       in_tensor(q + ".g_idx", first_is(99))},
      {one, "a group index below zero", "q_proj", "unpacked", "unpacked", "unpacked",
       in_tensor(q + ".g_idx", first_is(-1))},
      {one, "groups of unequal size", "q_proj", "numbers", "numbers", "numbers",
       in_tensor(q + ".g_idx",
                 [](Tensor& t) {
                   t[64].fill_(0);
                   t[5].fill_(1);
                   t[6].fill_(1);
                 })},
      {one, "two groups of columns trade places", "q_proj", "meant", "", "",
       in_tensor(q + ".g_idx", [](Tensor& t) { t = (1 - t).contiguous(); })},
      {one, "a zero point of symmetric weights", "q_proj", "numbers", "numbers", "numbers",
       in_tensor(q + ".qzeros", flipped(0, 1))},
      {one, "a row of zeros", "q_proj: row", "flattened", "flattened", "",
       in_tensor(q + ".qweight", [](Tensor& t) { t.select(1, 9).fill_(static_cast<int32_t>(0x88888888)); })},
      {one, "two words for the version", "checkpoint_format", "layout", "layout", "layout",
       in_quantization("/checkpoint_format", "gptq_v2")},
      {one, "the other version", "q_proj", "numbers", "numbers", "numbers",
       in_json("config.json",
               [](Json& config) {
                 Json& entry = config.at("quantization_config");
                 entry["checkpoint_format"] = entry["format"] = "gptq_v2";
               })},
      {one, "the order of activations", "desc_act", "config", "config", "config",
       in_quantization("/desc_act", true)},
      {one, "bits", "q_proj", "layout", "layout", "layout", in_quantization("/bits", 8)},
      {one, "symmetric", "sym", "config", "config", "config", in_quantization("/sym", false)},
      {one, "another side file", "quantize_config.json", "config", "config", "config",
       in_json("quantize_config.json", [](Json& c) { c["bits"] = 8; })},
      {one, "no side file", "quantize_config.json", "config", "config", "config",
       [](const fs::path& f) { fs::remove(f / "quantize_config.json"); }},
      {two, "zero points off by one", "up_proj", "meant", "distance", "",
       in_tensor(up + ".qzeros", [](Tensor& t) { t = (t - 0x11111111).contiguous(); })},
      {two, "version 1 in its place", "checkpoint_format", "config", "config", "config",
       in_json("config.json",
               [](Json& config) {
                 Json& entry = config.at("quantization_config");
                 entry["checkpoint_format"] = entry["format"] = "gptq";
               })},
      {two, "a zero point that wrapped", "up_proj", "meant", "distance", "",
       in_tensor(up + ".qzeros", flipped(0, 3))},
  };
}

std::vector<Fault> other_faults() {
  const char *awq = "words/awq", *hqq = "hqq", *spqr = "spqr", *int4 = "symmetric/modelopt",
             *fp8 = "floats/compressed-tensors", *fp8m = "floats/modelopt", *moe = "experts",
             *folded = "folded", *fixed = "static", *nvfp4 = "nvfp4";
  const std::string expert = "model.layers.0.block_sparse_moe.experts.";
  const auto words = [](Tensor& t) { return static_cast<uint64_t*>(t.data_ptr()); };
  return {
      {awq, "another version", "version", "layout", "layout", "layout", in_quantization("/version", "gemv")},
      {awq, "nibbles in their plain order", "q_proj", "meant", "distance", "",
       in_tensor(q + ".qweight",
                 [](Tensor& t) {
                   auto* w = static_cast<uint32_t*>(t.data_ptr());
                   for (int64_t i = 0; i < t.numel(); ++i) {
                     uint32_t plain = 0;
                     for (int s = 0; s < 8; ++s)
                       plain |= (w[i] >> (4 * s) & 15) << (4 * (s % 2 == 0 ? s / 2 : 4 + s / 2));
                     w[i] = plain;
                   }
                 })},
      {awq, "zero points all zero", "q_proj", "meant", "distance", "",
       in_tensor(q + ".qzeros", [](Tensor& t) { t.zero_(); })},
      {awq, "group size", "q_proj", "layout", "layout", "layout", in_quantization("/group_size", 64)},
      {hqq, "a zero that is NaN", "q_proj", "numbers", "numbers", "numbers",
       in_tensor(q + ".zero", first_is(NAN))},
      {hqq, "a scale eight times as large", "q_proj", "meant", "distance", "",
       in_tensor(q + ".scale", [](Tensor& t) { t[0].mul_(8); })},
      {hqq, "halves of bytes trade places", "q_proj", "meant", "distance", "",
       in_tensor(
           q + ".W_q",
           [](Tensor& t) {
             t = t.to(at::kInt).mul(16).bitwise_and(0xf0).add(t.to(at::kInt).div(16, "floor")).to(at::kByte);
           })},
      {hqq, "bits", "q_proj", "layout", "layout", "layout",
       in_tensor(q + ".nbits", [](Tensor& t) { t.fill_(2); })},
      {hqq, "its shape", "q_proj.shape", "layout", "layout", "layout", in_tensor(q + ".shape", first_is(64))},
      {spqr, "a bit of a second level", "q_proj", "unpacked", "unpacked", "unpacked",
       in_tensor(q + ".dense_weights", [=](Tensor& t) { words(t)[1] ^= uint64_t{1} << 55; })},
      {spqr, "a bit of a code", "q_proj", "meant", "", "",
       in_tensor(q + ".dense_weights", [=](Tensor& t) { words(t)[2] ^= uint64_t{1} << 8; })},
      {spqr, "a column out of range", "q_proj", "unpacked", "unpacked", "unpacked",
       in_tensor(q + ".in_perm", first_is(32767))},
      {spqr, "row offsets that fall", "q_proj", "unpacked", "unpacked", "unpacked",
       in_tensor(q + ".row_offsets", [](Tensor& t) { t[3].fill_(100000); })},
      {spqr, "the length of a tensor", "col_vals", "layout", "layout", "layout",
       in_json("config.json",
               [](Json& c) { c["quantization_config"]["shapes"][q + ".col_vals.shape"] = 1; })},
      {int4, "a scale of zero", "q_proj", "numbers", "numbers", "numbers",
       in_tensor(q + ".weight_scale", first_is(0))},
      {int4, "an input scale that is not folded", "o_proj", "unpacked", "unpacked", "unpacked",
       in_tensor(o + ".pre_quant_scale", first_is(2))},
      {int4, "rows of a byte trade places", "q_proj", "meant", "distance", "",
       in_tensor(
           q + ".weight",
           [](Tensor& t) {
             t = t.to(at::kInt).mul(16).bitwise_and(0xf0).add(t.to(at::kInt).div(16, "floor")).to(at::kByte);
           })},
      {int4, "another side file", "hf_quant_config.json", "config", "config", "config",
       in_json("hf_quant_config.json", [](Json& c) { c["quantization"]["group_size"] = 128; })},
      {fp8, "a code that is NaN", "q_proj", "numbers", "numbers", "numbers",
       in_tensor(q + ".weight", [](Tensor& t) { t.view(at::kByte).flatten()[0].fill_(0x7f); })},
      {fp8, "signs of a row", "q_proj", "meant", "distance", "",
       in_tensor(q + ".weight", [](Tensor& t) { t.view(at::kByte)[5].bitwise_xor_(0x80); })},
      {fp8m, "an infinite scale", "q_proj", "numbers", "numbers", "numbers",
       in_tensor(q + ".weight_scale", first_is(INFINITY))},
      {fp8m, "a scale that an engine flushes to zero", "q_proj", "numbers", "numbers", "numbers",
       in_tensor(q + ".weight_scale", first_is(1e-40))},
      {moe, "two experts trade places",
       "nearest to the weights of model.layers.0.block_sparse_moe.experts.2.w1", "distance", "distance", "",
       swapped(expert + "1.w1", expert + "2.w1")},
      {moe, "an expert twice", "experts.3.w2", "duplicates", "duplicates", "duplicates",
       copied(expert + "0.w2", expert + "3.w2")},
      {moe, "a bit of the router", "block_sparse_moe.gate", "kept", "kept", "",
       in_tensor("model.layers.0.block_sparse_moe.gate.weight", flipped(11, 5))},
      {moe, "an expert that is missing", "experts.3.w2", "layout", "layout", "layout",
       dropped(expert + "3.w2")},
      {folded, "a channel of a folded norm", "layers.1.input_layernorm", "kept", "folded", "",
       in_tensor(norm, [](Tensor& t) { t[17].mul_(4); })},
      {folded, "the norm as it was", "layers.1.input_layernorm", "kept", "folded", "",
       [](const fs::path& f) {
         const Tensors model =
             read_safetensors(Artefacts::get().model("folded").checkpoint->folder() / "model.safetensors");
         edit_tensors(f, [&](Tensors& t) { t.at(norm) = model.at(norm).clone(); });
       }},
      {folded, "a row of v", "v_proj", "meant", "folded", "",
       in_tensor(v + ".weight_scale", [](Tensor& t) { t[5].mul_(1.75); })},
      {folded, "all rows of v", "v_proj", "meant", "folded", "",
       in_tensor(v + ".weight_scale", [](Tensor& t) { t.mul_(2); })},
      {folded, "a row of up", "up_proj", "meant", "folded", "",
       in_tensor(up + ".weight_scale", [](Tensor& t) { t[100].mul_(0.5); })},
      {folded, "columns of down", "down_proj|up_proj: row of channel [64]", "meant", "folded", "",
       in_tensor("model.layers.1.mlp.down_proj.weight_scale", [](Tensor& t) { t.select(1, 2).mul_(1.75); })},
      {folded, "all of a linear", "q_proj", "meant", "folded", "",
       in_tensor(q + ".weight_scale", [](Tensor& t) { t.mul_(2); })},
      {fixed, "a NaN as the scale of keys", "layers.1.self_attn", "numbers", "numbers", "numbers",
       in_tensor("model.layers.1.self_attn.k_scale", first_is(NAN))},
      {fixed, "no scale of values", "layers.0.self_attn", "numbers", "numbers", "numbers",
       in_tensor("model.layers.0.self_attn.v_scale", first_is(0))},
      {fixed, "another scale of values", "layers.0.self_attn", "meant", "", "",
       in_tensor("model.layers.0.self_attn.v_scale", [](Tensor& t) { t.mul_(100); })},
      {fixed, "an input scale of zero", "q_proj", "unpacked", "unpacked", "unpacked",
       in_tensor(q + ".input_scale", first_is(0))},
      {fixed, "signs of codes", "q_proj", "meant", "distance", "",
       in_tensor(q + ".weight", [](Tensor& t) { t.view(at::kByte)[7].bitwise_xor_(0x80); })},
      {fixed, "all scales a quarter larger", "q_proj", "meant", "distance", "",
       in_tensor(q + ".weight_scale", [](Tensor& t) { t.mul_(1.25); })},
      {fixed, "a row's scale of half its size", "q_proj: row 9", "-", "distance", "",
       in_tensor(q + ".weight_scale", [](Tensor& t) { t[9].mul_(0.5); })},
      {nvfp4, "the tensor's scale twice as large", "q_proj", "meant", "distance", "",
       in_tensor(q + ".weight_global_scale", [](Tensor& t) { t.mul_(2); })},
      {nvfp4, "an infinite scale of the tensor", "q_proj", "numbers", "numbers", "numbers",
       in_tensor(q + ".weight_global_scale", first_is(0))},
      {nvfp4, "a block's scale that is NaN", "q_proj", "numbers", "numbers", "numbers",
       in_tensor(q + ".weight_scale", [](Tensor& t) { t.view(at::kByte).flatten()[3].fill_(0x7f); })},
      {nvfp4, "an input's scale that is NaN", "q_proj", "unpacked", "unpacked", "unpacked",
       in_tensor(q + ".input_global_scale", first_is(NAN))},
      {nvfp4, "nibbles of a byte trade places", "q_proj", "meant", "distance", "",
       in_tensor(
           q + ".weight_packed",
           [](Tensor& t) {
             t = t.to(at::kInt).mul(16).bitwise_and(0xf0).add(t.to(at::kInt).div(16, "floor")).to(at::kByte);
           })},
      {"biased", "a folded bias", "v_proj.bias", "kept", "folded", "",
       in_tensor(v + ".bias", [](Tensor& t) { t[3].mul_(2); })},
      {folded, "k and v trade places", "self_attn.v_proj", "distance", "distance", "", swapped(k, v)},
  };
}

}  // namespace lathe::test
