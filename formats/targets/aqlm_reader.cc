#include "formats/targets/aqlm_reader.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "formats/targets/float_reader.h"
#include "formats/targets/strict_object.h"
#include "lib/base/checked.h"
#include "lib/base/error.h"

namespace lathe {

AqlmReader::AqlmReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph)
    : LayoutReader(checkpoint, graph) {
  StrictObject config(checkpoint->config().at("quantization_config"), where());
  config.word("quant_method", {"aqlm"});
  in_group_size_ = config.optional_integer("in_group_size", 1, 1 << 16, 8);
  out_group_size_ = config.optional_integer("out_group_size", 1, 1 << 16, 1);
  codebooks_ = config.optional_integer("num_codebooks", 1, 64, 1);
  bits_ = config.optional_integer("nbits_per_codebook", 1, 16, 16);
  const std::vector<std::string> kept = config.words("linear_weights_not_to_quantize", false);
  config.no_other_keys();

  const int64_t values = in_group_size_ * out_group_size_;
  const Scheme scheme =
      Scheme::of_vectors(fmt::format("AQLM {}x{} of {}", codebooks_, bits_, values),
                         static_cast<int>(std::min<int64_t>(16, ceil_div(codebooks_ * bits_, values))));
  for (const Linear& linear : graph.linears()) {
    if (std::ranges::find(kept, linear.name + ".weight") != kept.end()) {
      check_floating(linear, {".codes", ".codebooks", ".scales"});
      continue;
    }
    if (linear.in % in_group_size_ != 0 || linear.out % out_group_size_ != 0) {
      user_error("{}: '{}' of shape [{}, {}] can't be stored as {}: groups of {} outputs and {} inputs",
                 checkpoint->folder().string(), linear.name, linear.out, linear.in, scheme.describe(),
                 out_group_size_, in_group_size_);
    }
    const int64_t rows = linear.out / out_group_size_;
    add(planned(linear, scheme),
        {{linear.name + ".codes",
          {bits_ <= 8 ? DType::I8 : DType::I16, {rows, linear.in / in_group_size_, codebooks_}}},
         of_floats(linear.name + ".codebooks",
                   {codebooks_, int64_t{1} << bits_, out_group_size_, in_group_size_}),
         of_floats(linear.name + ".scales", {rows, 1, 1, 1})});
  }
}

QuantizedTensor AqlmReader::read(const std::string& name) const {
  const PlannedLinear& linear = this->linear(name);
  const std::string place = name + ".codes";
  const at::Tensor codes = words(place).to(at::kInt);
  release(place);
  const int half = 1 << (bits_ - 1);
  const at::Tensor bad = codes.lt(-half).logical_or_(codes.ge(half));
  if (bad.any().item<bool>()) {
    user_error("{}: the code at {} is {}: expected {} to {}", describe_tensor(checkpoint(), place),
               first_index(bad), codes.masked_select(bad)[0].item<int>(), -half, half - 1);
  }
  const at::Tensor books = read_float_tensor(checkpoint(), name + ".codebooks").flatten(2);
  release(name + ".codebooks");
  const at::Tensor scales = read_float_tensor(checkpoint(), name + ".scales").view({-1, 1});
  release(name + ".scales");
  at::Tensor sum;
  for (int64_t c = 0; c < codebooks_; ++c) {
    const at::Tensor places = codes.select(2, c).bitwise_and(2 * half - 1).reshape({-1});
    const at::Tensor vectors = books[c].index_select(0, places);
    sum = c == 0 ? vectors : sum.add_(vectors);
  }
  QuantizedTensor tensor{
      .scheme = linear.scheme, .scale_dtype = DType::F16, .codes = {}, .scales = {}, .zero_points = {}};
  const int64_t rows = codes.size(0), groups = codes.size(1);
  tensor.values = sum.view({rows, -1})
                      .mul_(scales)
                      .view({rows, groups, out_group_size_, in_group_size_})
                      .transpose(1, 2)
                      .reshape({linear.out, linear.in});
  return tensor;
}

}  // namespace lathe
