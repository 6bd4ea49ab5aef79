#include "formats/targets/vptq_reader.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <bit>

#include "formats/targets/bitpack.h"
#include "formats/targets/float_reader.h"
#include "formats/targets/strict_object.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using nlohmann::json;

constexpr int kMost = 1 << 16;  // a place has 16 bits

/// Two integers, of outliers and of the rest; -1 or 0: none.
std::array<int64_t, 2> pair(StrictObject& layer, const char* key) {
  const json& value = layer.need(key, "two integers");
  const bool good = value.is_array() && value.size() == 2 && value[0].is_number_integer() &&
                    value[1].is_number_integer() && value[0] >= -1 && value[0] <= kMost && value[1] >= -1 &&
                    value[1] <= kMost;
  if (!good) layer.refuse(key, fmt::format("two integers up to {}", kMost));
  return {value[0].get<int64_t>(), value[1].get<int64_t>()};
}

/// Absent: `otherwise`.
bool optional_truth(StrictObject& layer, const char* key, bool otherwise) {
  return layer.find(key) == nullptr ? otherwise : layer.truth(key);
}

void check_power(const StrictObject& layer, const char* key, int64_t count) {
  if (!std::has_single_bit(static_cast<uint64_t>(count))) layer.refuse(key, "powers of two, of 2 and more");
}

VptqLayer parse_layer(const json& value, const std::string& where) {
  StrictObject object(value, where);
  VptqLayer layer;
  const auto vectors = pair(object, "vector_lens"), centroids = pair(object, "num_centroids"),
             residual = pair(object, "num_res_centroids");
  layer.vector = vectors[1];
  layer.centroids = centroids[1];
  if (layer.vector < 1) object.refuse("vector_lens", "a second number of 1 and more");
  if (layer.centroids < 2) object.refuse("num_centroids", "a second number of 2 and more");
  check_power(object, "num_centroids", layer.centroids);
  layer.residual = std::max<int64_t>(0, residual[1]);
  if (layer.residual > 0) check_power(object, "num_res_centroids", layer.residual);
  if (residual[0] > 0) object.refuse("num_res_centroids", "-1 for outliers");
  layer.groups = object.integer("group_num", 1, 1 << 16);
  layer.group_size = object.integer("group_size", 1, 1 << 30);
  layer.outliers = object.optional_integer("outlier_size", 0, 1 << 30, 0);
  if (layer.outliers > 0) {
    layer.outlier_vector = vectors[0];
    layer.outlier_centroids = centroids[0];
    if (layer.outlier_vector < 1) object.refuse("vector_lens", "a first number of 1 and more, for outliers");
    if (layer.outlier_centroids < 1)
      object.refuse("num_centroids", "a first number of 1 and more, for outliers");
  }
  layer.norm = optional_truth(object, "enable_norm", true);
  layer.perm = optional_truth(object, "enable_perm", true);
  if (!optional_truth(object, "is_indice_packed", true)) object.refuse("is_indice_packed", "true");
  if (optional_truth(object, "indices_as_float", false)) object.refuse("indices_as_float", "false");
  object.optional_word("vector_quant_dim", {"out"});
  // The model's own graph says these; the library writes them along.
  object.informational(
      {"in_features", "out_features", "bias", "dtype", "device", "enable_proxy_error", "norm_dim"});
  object.no_other_keys();
  return layer;
}

Scheme scheme_of(const VptqLayer& layer) {
  std::string text = fmt::format("VPTQ {}", layer.centroids);
  if (layer.residual > 0) text += fmt::format("+{}", layer.residual);
  text += fmt::format(" of {}", layer.vector);
  if (layer.groups > 1) text += fmt::format(", {} groups", layer.groups);
  if (layer.outliers > 0) text += fmt::format(", {} outlier inputs", layer.outliers);
  return Scheme::of_vectors(text,
                            static_cast<int>(std::min<int64_t>(16, ceil_div(layer.bits(), layer.vector))));
}

/// Vectors Float [centroids, v] at Int [rows, n] -> Float [rows v, n].
at::Tensor spread(const at::Tensor& vectors, const at::Tensor& places) {
  return vectors.index_select(0, places.reshape({-1}))
      .view({places.size(0), places.size(1), -1})
      .transpose(1, 2)
      .reshape({-1, places.size(1)});
}

std::vector<PlannedTensor> other_tensors(const PlannedLinear& linear, const VptqLayer& layer) {
  std::vector<PlannedTensor> tensors = {
      {linear.name + ".indices",
       {DType::I32,
        {layer.groups, ceil_div(linear.out, layer.vector), packed_words(layer.group_size, layer.bits())}}}};
  if (layer.outliers > 0) {
    tensors.push_back({linear.name + ".outlier_indices",
                       {DType::I16, {1, ceil_div(linear.out, layer.outlier_vector), layer.outliers}}});
  }
  if (layer.perm) tensors.push_back({linear.name + ".perm", {DType::I16, {linear.in}}});
  return tensors;
}

}  // namespace

int VptqLayer::index_bits() const { return std::countr_zero(static_cast<uint64_t>(centroids)); }
int VptqLayer::residual_bits() const {
  return residual == 0 ? 0 : std::countr_zero(static_cast<uint64_t>(residual));
}

VptqIndices unpack_vptq_indices(const at::Tensor& words, int low_bits, int bits, int64_t n) {
  LATHE_ASSERT(words.is_contiguous() && words.scalar_type() == at::kInt && bits <= 32 &&
                   words.size(1) == packed_words(n, bits),
               "{} fields of {} bits in {} words", n, bits, words.size(1));
  VptqIndices result{at::empty({words.size(0), n}, at::kInt), at::empty({words.size(0), n}, at::kInt)};
  auto *low = result.low.data_ptr<int32_t>(), *high = result.high.data_ptr<int32_t>();
  for (int64_t row = 0; row < words.size(0); ++row) {
    const auto* stream =
        reinterpret_cast<const uint32_t*>(words.const_data_ptr<int32_t>()) + row * words.size(1);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t bit = i * bits, word = bit / 32;
      uint64_t field = stream[word] >> (bit % 32);
      if (bit % 32 + bits > 32) field |= uint64_t{stream[word + 1]} << (32 - bit % 32);
      field &= (uint64_t{1} << bits) - 1;
      *low++ = static_cast<int32_t>(field & ((uint64_t{1} << low_bits) - 1));
      *high++ = static_cast<int32_t>(field >> low_bits);
    }
  }
  return result;
}

VptqReader::VptqReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph)
    : LayoutReader(checkpoint, graph) {
  StrictObject config(checkpoint->config().at("quantization_config"), where());
  config.word("quant_method", {"vptq"});
  std::map<std::string, VptqLayer> named[2];
  const std::array keys = {"config_for_layers", "shared_layer_config"};
  for (size_t k = 0; k < keys.size(); ++k) {
    const json* layers = config.find(keys[k]);
    if (layers == nullptr || layers->is_null()) continue;
    if (!layers->is_object()) config.refuse(keys[k], "an object of layers");
    for (const auto& [name, layer] : layers->items())
      named[k].emplace(name, parse_layer(layer, fmt::format("{}.{}.{}", where(), keys[k], name)));
  }
  config.words("modules_to_not_convert", false);  // those that neither of the two names
  const json* debugging = config.find("enable_proxy_error");
  if (debugging != nullptr && !debugging->is_null() && *debugging != false)
    config.refuse("enable_proxy_error", "false");
  config.no_other_keys();

  for (const Linear& linear : graph.linears()) {
    auto found = named[0].find(linear.name);
    if (found == named[0].end()) {
      found = named[1].find(linear.name.substr(linear.name.rfind('.') + 1));
      if (found == named[1].end()) {
        check_floating(linear, {".centroids.weight", ".indices"});
        continue;
      }
    }
    const VptqLayer& layer = found->second;
    const int64_t inputs = layer.outliers + layer.groups * layer.group_size;
    if (inputs != linear.in || linear.in > kMost) {
      user_error("{}: '{}': {} outliers and {} groups of {} inputs: expected {} inputs (at most {})", where(),
                 linear.name, layer.outliers, layer.groups, layer.group_size, linear.in, kMost);
    }
    const PlannedLinear planned = this->planned(linear, scheme_of(layer));
    std::vector<PlannedTensor> tensors = other_tensors(planned, layer);
    const auto floats = [&](const char* suffix, std::vector<int64_t> shape) {
      tensors.push_back(of_floats(linear.name + suffix, std::move(shape)));
    };
    floats(".centroids.weight", {layer.groups, layer.centroids * layer.vector});
    if (layer.residual > 0) floats(".res_centroids.weight", {layer.groups, layer.residual * layer.vector});
    if (layer.outliers > 0)
      floats(".outlier_centroids.weight", {1, layer.outlier_centroids * layer.outlier_vector});
    if (layer.norm) floats(".weight_scale", {linear.in});
    if (layer.norm) floats(".weight_bias", {linear.in});
    add(planned, tensors);
    layers_.emplace(linear.name, layer);
  }
}

/// Float [out, outliers].
at::Tensor VptqReader::outliers(const PlannedLinear& linear, const VptqLayer& layer) const {
  const std::string name = linear.name + ".outlier_indices";
  const at::Tensor places = words(name)[0].to(at::kInt).bitwise_and(kMost - 1);
  release(name);
  const at::Tensor bad = places.ge(layer.outlier_centroids);
  if (bad.any().item<bool>()) {
    user_error("{}: the place at {} (vector, input) is {}: expected 0 to {}",
               describe_tensor(checkpoint(), name), first_index(bad),
               places.masked_select(bad)[0].item<int>(), layer.outlier_centroids - 1);
  }
  const at::Tensor vectors = read_float_tensor(checkpoint(), linear.name + ".outlier_centroids.weight");
  return spread(vectors.view({layer.outlier_centroids, -1}), places).slice(0, 0, linear.out);
}

/// Long [in]: where each input's column stands among the ordered ones.
at::Tensor VptqReader::order(const PlannedLinear& linear) const {
  const std::string name = linear.name + ".perm";
  const at::Tensor perm = words(name).to(at::kLong).bitwise_and(kMost - 1);
  release(name);
  const at::Tensor where = perm.argsort();
  if (perm.index_select(0, where).equal(at::arange(linear.in))) return where;
  user_error("{}: expected every input once, 0 to {}", describe_tensor(checkpoint(), name), linear.in - 1);
}

QuantizedTensor VptqReader::read(const std::string& name) const {
  const PlannedLinear& linear = this->linear(name);
  const VptqLayer& layer = layers_.at(name);
  const at::Tensor stored = words(name + ".indices");
  const at::Tensor centroids = read_float_tensor(checkpoint(), name + ".centroids.weight");
  const at::Tensor residual =
      layer.residual > 0 ? read_float_tensor(checkpoint(), name + ".res_centroids.weight") : at::Tensor();
  std::vector<at::Tensor> columns;
  if (layer.outliers > 0) columns.push_back(outliers(linear, layer));
  for (int64_t g = 0; g < layer.groups; ++g) {
    const VptqIndices places =
        unpack_vptq_indices(stored[g].contiguous(), layer.index_bits(), layer.bits(), layer.group_size);
    at::Tensor part = spread(centroids[g].view({layer.centroids, -1}), places.low);
    if (layer.residual > 0) part.add_(spread(residual[g].view({layer.residual, -1}), places.high));
    columns.push_back(part.slice(0, 0, linear.out));
  }
  release(name + ".indices");
  QuantizedTensor tensor{
      .scheme = linear.scheme, .scale_dtype = DType::F16, .codes = {}, .scales = {}, .zero_points = {}};
  tensor.values = at::cat(columns, 1);
  if (layer.perm) tensor.values = tensor.values.index_select(1, order(linear));
  if (layer.norm) {
    tensor.values.mul_(read_float_tensor(checkpoint(), name + ".weight_scale"))
        .add_(read_float_tensor(checkpoint(), name + ".weight_bias"));
  }
  return tensor;
}

}  // namespace lathe
