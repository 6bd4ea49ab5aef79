#include "formats/targets/bitsandbytes_reader.h"

#include <ATen/ATen.h>

#include <cmath>

#include "formats/safetensors/json_text.h"
#include "formats/targets/float_reader.h"
#include "formats/targets/strict_object.h"
#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

constexpr int kMostBlock = 1 << 16;

/// "nf4" or "fp4". UserError for what isn't stored in 4 bits.
std::string parse_config(const nlohmann::json& value, const std::string& where) {
  StrictObject config(value, where);
  config.word("quant_method", {"bitsandbytes"});
  if (config.find("load_in_8bit") != nullptr && config.truth("load_in_8bit"))
    config.refuse("load_in_8bit", "false (LLM.int8 is not read)");
  if (!config.truth("load_in_4bit")) config.refuse("load_in_4bit", "true");
  const std::string type = config.word("bnb_4bit_quant_type", {"nf4", "fp4"});
  config.optional_word("bnb_4bit_quant_storage", {"uint8"});
  config.informational({"bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype", "llm_int8_threshold",
                        "llm_int8_skip_modules", "llm_int8_enable_fp32_cpu_offload",
                        "llm_int8_has_fp16_weight", "_load_in_4bit", "_load_in_8bit"});  // the tensors say it
  config.no_other_keys();
  return type;
}

std::string upper(std::string word) {
  for (char& letter : word) letter = static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
  return word;
}

/// Each value for `block` places, `count` in all.
at::Tensor spread(const at::Tensor& values, int64_t block, int64_t count) {
  return values.repeat_interleave(block).slice(0, 0, count);
}

}  // namespace

BitsandbytesReader::BitsandbytesReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph)
    : LayoutReader(checkpoint, graph),
      type_(parse_config(checkpoint->config().at("quantization_config"), where())) {
  for (const Linear& linear : graph.linears()) {
    const std::string weight = linear.name + ".weight",
                      state = weight + ".quant_state.bitsandbytes__" + type_;
    const auto found = checkpoint->tensors().find(state);
    if (found == checkpoint->tensors().end()) {
      const auto stored = checkpoint->tensors().find(weight);
      if (stored != checkpoint->tensors().end() && stored->second.dtype == DType::U8)
        user_error("{}: tensor '{}' is missing", checkpoint->folder().string(), state);
      continue;
    }
    const State said = states_[linear.name] = parse_state(state, linear);
    const int64_t count = linear.out * linear.in, blocks = ceil_div(count, said.block);
    const bool nested = said.nested_block > 0;
    std::vector<PlannedTensor> tensors = {{weight, {DType::U8, {ceil_div(count, 2), 1}}},
                                          {weight + ".quant_map", {DType::F32, {16}}},
                                          {weight + ".absmax", {nested ? DType::U8 : DType::F32, {blocks}}},
                                          {state, {DType::U8, found->second.shape}}};
    if (nested) {
      tensors.push_back({weight + ".nested_quant_map", {DType::F32, {256}}});
      tensors.push_back({weight + ".nested_absmax", {DType::F32, {ceil_div(blocks, said.nested_block)}}});
    }
    add(planned(linear, Scheme::of_vectors(fmt::format("{} g{}", upper(type_), said.block), 4)), tensors);
  }
}

BitsandbytesReader::State BitsandbytesReader::parse_state(const std::string& name,
                                                          const Linear& linear) const {
  const std::string place = describe_tensor(checkpoint(), name);
  const TensorInfo& info = checkpoint().tensors().at(name);
  if (info.dtype != DType::U8) user_error("{}: expected U8, found {}", place, info.describe());
  const at::Tensor bytes = words(name).contiguous();
  const std::string_view text(reinterpret_cast<const char*>(bytes.const_data_ptr<uint8_t>()),
                              static_cast<size_t>(bytes.numel()));
  const nlohmann::json parsed = parse_json_object(text, place, 3);
  release(name);
  StrictObject object(parsed, place);
  object.word("quant_type", {type_});
  State state{.block = object.integer("blocksize", 1, kMostBlock)};
  const std::string shape = fmt::format("[{},{}]", linear.out, linear.in);
  if (object.need("shape", shape.c_str()).dump() != shape) object.refuse("shape", shape);
  object.informational({"dtype", "nested_dtype"});
  if (object.find("nested_blocksize") != nullptr) {
    state.nested_block = object.integer("nested_blocksize", 1, kMostBlock);
    const nlohmann::json& offset = object.need("nested_offset", "a number");
    state.nested_offset = offset.is_number() ? offset.get<float>() : NAN;
    if (!std::isfinite(state.nested_offset)) object.refuse("nested_offset", "a finite number");
  }
  object.no_other_keys();
  return state;
}

QuantizedTensor BitsandbytesReader::read(const std::string& name) const {
  const PlannedLinear& linear = this->linear(name);
  const State& state = states_.at(name);
  const std::string weight = name + ".weight";
  const int64_t count = linear.out * linear.in, blocks = ceil_div(count, state.block);
  at::Tensor largest;
  if (state.nested_block > 0) {
    const at::Tensor numbers = read_float_tensor(checkpoint(), weight + ".nested_quant_map");
    const at::Tensor outer = read_float_tensor(checkpoint(), weight + ".nested_absmax");
    largest = numbers.index_select(0, words(weight + ".absmax").to(at::kInt))
                  .mul_(spread(outer, state.nested_block, blocks))
                  .add_(state.nested_offset);
    release(weight + ".absmax");
  } else {
    largest = read_float_tensor(checkpoint(), weight + ".absmax");
  }
  const at::Tensor numbers = read_float_tensor(checkpoint(), weight + ".quant_map");
  const at::Tensor bytes = words(weight).view({-1});
  const at::Tensor codes =
      at::stack({bytes.bitwise_right_shift(4), bytes.bitwise_and(15)}, 1).view({-1}).slice(0, 0, count);
  release(weight);
  QuantizedTensor tensor{
      .scheme = linear.scheme, .scale_dtype = DType::F32, .codes = {}, .scales = {}, .zero_points = {}};
  tensor.values = numbers.index_select(0, codes.to(at::kInt))
                      .mul_(spread(largest, state.block, count))
                      .view({linear.out, linear.in});
  return tensor;
}

}  // namespace lathe
