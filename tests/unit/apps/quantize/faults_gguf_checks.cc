// Faults in GGUF files.
#include <ATen/ATen.h>

#include <cmath>

#include "formats/gguf/gguf_file.h"
#include "tests/unit/apps/quantize/faults.h"

namespace lathe::test {
namespace {

/// The bytes of the artefact's GGUF file, changed.
std::function<void(const fs::path&)> in_gguf(
    const std::function<void(std::string&, const GgufFile&)>& change) {
  return [=](const fs::path& folder) {
    fs::path file;
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().extension() == ".gguf" && entry.path().filename() != "imatrix.gguf")
        file = entry.path();
    std::string bytes = read_text_file(file);
    change(bytes, GgufFile::open(file));
    std::ofstream(file, std::ios::binary) << bytes;
  };
}
/// Where a tensor's data stand in the bytes.
size_t place_of(const std::string& bytes, const GgufFile& file, const std::string& tensor) {
  const auto& data = file.tensor(tensor)->bytes;
  return bytes.find(std::string_view(reinterpret_cast<const char*>(data.data()), data.size()));
}
/// Where the type's number stands in the header: behind name, dimensions and sizes.
size_t type_of(const std::string& bytes, const std::string& tensor, size_t dimensions) {
  return bytes.find(tensor) + tensor.size() + 4 + 8 * dimensions;
}
size_t value_of(const std::string& bytes, const std::string& key) { return bytes.find(key) + key.size() + 4; }

}  // namespace

std::vector<Fault> gguf_faults() {
  const char *at = "gguf", *folded = "gguf_folded";
  const std::string q_tensor = "blk.0.attn_q.weight";
  return {
      {at, "a scale that is NaN", "blk.0.attn_q", "-", "numbers", "numbers",
       in_gguf(
           [=](std::string& b, const GgufFile& f) { b.replace(place_of(b, f, q_tensor), 2, "\xff\x7f"); })},
      {at, "an infinite scale", "blk.0.attn_q", "-", "numbers", "numbers",
       in_gguf([=](std::string& b, const GgufFile& f) {
         b.replace(place_of(b, f, q_tensor), 2, std::string("\0\x7c", 2));
       })},
      {at, "a scale eight times as large", "blk.0.attn_q", "-", "distance", "",
       in_gguf([=](std::string& b, const GgufFile& f) { b[place_of(b, f, q_tensor) + 1] += 12; })},
      {at, "two layers trade places", "blk.1.ffn_up", "-", "distance", "",
       in_gguf([](std::string& b, const GgufFile& f) {
         const size_t one = place_of(b, f, "blk.0.ffn_up.weight"),
                      two = place_of(b, f, "blk.1.ffn_up.weight");
         std::swap_ranges(b.begin() + one, b.begin() + one + f.tensor("blk.0.ffn_up.weight")->bytes.size(),
                          b.begin() + two);
       })},
      {at, "a layer twice", "blk.1.ffn_up", "-", "distance", "duplicates",
       in_gguf([](std::string& b, const GgufFile& f) {
         const size_t size = f.tensor("blk.0.ffn_up.weight")->bytes.size();
         b.replace(place_of(b, f, "blk.1.ffn_up.weight"), size,
                   b.substr(place_of(b, f, "blk.0.ffn_up.weight"), size));
       })},
      {at, "another type of equal size", "blk.0.attn_q", "-", "layout", "",
       in_gguf([=](std::string& b, const GgufFile&) { b[type_of(b, q_tensor, 2)] = 20; })},  // IQ4_NL
      {at, "a tensor of another name", "blk.0.attn_q", "-", "layout", "layout",
       in_gguf([=](std::string& b, const GgufFile&) { b[b.find(q_tensor) + 11] = 'x'; })},
      {at, "another offset", "blk.0.attn_q", "-", "layout", "layout",
       in_gguf([=](std::string& b, const GgufFile&) { b[type_of(b, q_tensor, 2) + 4] += 32; })},
      {at, "fewer heads", "attn_q", "-", "layout", "layout",
       in_gguf([](std::string& b, const GgufFile&) { b[value_of(b, "llama.attention.head_count")] = 2; })},
      {at, "fewer blocks", "block_count|blk.1.attn_q", "-", "config", "accounted",
       in_gguf([](std::string& b, const GgufFile&) { b[value_of(b, "llama.block_count")] = 1; })},
      {at, "another epsilon", "rms_epsilon", "-", "config", "", in_gguf([](std::string& b, const GgufFile&) {
         b[value_of(b, "llama.attention.layer_norm_rms_epsilon") + 3] ^= 1;
       })},
      {at, "a file that was cut", ".gguf", "-", "layout", "layout",
       in_gguf([](std::string& b, const GgufFile&) { b.resize(b.size() - 1000); })},
      {at, "a bit of a norm", "blk.1.attn_norm", "-", "kept", "",
       in_gguf(
           [](std::string& b, const GgufFile& f) { b[place_of(b, f, "blk.1.attn_norm.weight") + 6] ^= 8; })},
      {folded, "a channel of a folded norm", "layers.1.input_layernorm", "-", "folded", "",
       in_gguf([](std::string& b, const GgufFile& f) {  // FP32, times four
         b[place_of(b, f, "blk.1.attn_norm.weight") + 4 * 17 + 3] += 1;
       })},
      {folded, "the norm as it was", "layers.1.input_layernorm.weight: all channels", "-", "folded", "",
       in_gguf([](std::string& b, const GgufFile& f) {
         const at::Tensor norm =
             Artefacts::get().model("folded").weights->load("model.layers.1.input_layernorm.weight");
         b.replace(place_of(b, f, "blk.1.attn_norm.weight"), 4 * norm.numel(),
                   std::string_view(static_cast<const char*>(norm.data_ptr()), 4 * norm.numel()));
       })},
      {folded, "a norm that no fold may touch", "output_norm", "-", "kept", "",
       in_gguf([](std::string& b, const GgufFile& f) { b[place_of(b, f, "output_norm.weight") + 6] ^= 8; })},
  };
}

}  // namespace lathe::test
