#include "formats/targets/gguf_reader.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "lib/base/error.h"
#include "lib/numeric/ggml_block.h"

namespace lathe {
namespace {

/// Of a type whose blocks are d * (code - offset), or scaled numbers of E2M1; nothing for others.
std::optional<Scheme> grid_of(GgmlType type) {
  const auto integers = [&](int bits) {
    return Scheme{.bits = bits, .group_size = traits(type).length, .symmetric = true};
  };
  switch (type) {
    case GgmlType::Q4_0:
      return integers(4);
    case GgmlType::Q5_0:
      return integers(5);
    case GgmlType::Q8_0:
      return integers(8);
    case GgmlType::TQ1_0:
    case GgmlType::TQ2_0:
      return integers(2);  // -1, 0 and 1
    case GgmlType::MXFP4:
      return Scheme::of_floats("mxfp4");
    case GgmlType::NVFP4:
      return Scheme::of_floats("nvfp4");
    default:
      return std::nullopt;
  }
}

/// Takes a tensor's blocks one by one.
class Unpacked {
 public:
  Unpacked(const Scheme& scheme, GgmlType type, int64_t rows, int64_t columns)
      : type_(type), integers_(scheme.type == "int") {
    tensor_.scheme = scheme;
    tensor_.scale_dtype = scheme.scale_type(DType::F16);
    tensor_.codes = at::empty({rows, columns}, at::kChar);
    tensor_.scales = at::empty({rows, columns / traits(type).length}, at::kFloat);
    if (integers_) tensor_.zero_points = at::zeros(tensor_.scales.sizes(), at::kChar);
  }

  int64_t blocks() const { return tensor_.scales.numel(); }

  /// False for a scale that is no number.
  bool take(int64_t index, const uint8_t* bytes) {
    unpack(type_, bytes, block_);
    auto* const code = tensor_.codes.data_ptr<int8_t>() + index * traits(type_).length;
    float* const scale = tensor_.scales.data_ptr<float>() + index;
    return integers_ ? take_integers(code, scale, index) : take_floats(code, scale);
  }

  QuantizedTensor finish() {
    if (!integers_) return std::move(tensor_);
    if (needs_zeros_) {
      tensor_.scheme.symmetric = false;
    } else {  // codes of negative blocks stand one lower
      tensor_.codes.view({tensor_.codes.size(0), tensor_.scales.size(1), -1})
          .sub_(tensor_.zero_points.unsqueeze(2));
      tensor_.zero_points = at::Tensor();
    }
    return std::move(tensor_);
  }

 private:
  bool take_integers(int8_t* code, float* scale, int64_t index) {
    const GgmlTraits& format = traits(type_);
    const float d = from_half(block_.d);
    if (!std::isfinite(d)) return false;
    *scale = d == 0 ? 1.0f : std::abs(d);  // a block of zeros: any scale is right
    if (d < 0) tensor_.zero_points.data_ptr<int8_t>()[index] = -1;
    const int largest = tensor_.scheme.qmax();
    for (int64_t i = 0; i < format.length; ++i) {
      const int stored = block_.codes[static_cast<size_t>(i)];
      needs_zeros_ = needs_zeros_ || (d < 0 && format.offset - stored > largest);
      const int level = d == 0 ? 0 : d < 0 ? format.offset - stored - 1 : stored - format.offset;
      code[i] = static_cast<int8_t>(level);
    }
    return true;
  }

  bool take_floats(int8_t* code, float* scale) {
    if (block_.d == 255) return false;  // E8M0's NaN
    *scale = std::ldexp(1.0f, block_.d - 127);
    for (int64_t i = 0; i < traits(type_).length; ++i)
      code[i] = static_cast<int8_t>(block_.codes[static_cast<size_t>(i)]);
    return true;
  }

  GgmlType type_;
  bool integers_, needs_zeros_ = false;
  QuantizedTensor tensor_;
  GgmlBlock block_;
};

/// Scales that ggml takes for 0 become 1, over codes of 0. UserError naming `where` for one that E4M3 has
/// not.
QuantizedTensor read_nvfp4(const uint8_t* bytes, int64_t rows, int64_t columns, float global,
                           const std::string& where) {
  const Scheme scheme = Scheme::of_floats("nvfp4");
  QuantizedTensor tensor{.scheme = scheme,
                         .scale_dtype = scheme.scale_type(DType::F16),
                         .codes = at::empty({rows, columns}, at::kChar),
                         .scales = at::ones({rows, columns / scheme.group_size}),
                         .zero_points = {}};
  tensor.global_scale = at::full({}, global, at::kFloat);
  auto* const codes = reinterpret_cast<uint8_t*>(tensor.codes.data_ptr<int8_t>());
  float* const scales = tensor.scales.data_ptr<float>();
  const GgmlTraits& format = traits(GgmlType::NVFP4);
  for (int64_t group = 0; group < tensor.scales.numel(); group += 4, bytes += format.bytes) {
    std::array<uint8_t, 4> stored;
    unpack_nvfp4(bytes, stored.data(), codes + group * scheme.group_size);
    for (int64_t g = group; g < group + 4; ++g) {
      const uint8_t byte = stored[static_cast<size_t>(g - group)], code = byte & 127;
      if (byte == 255) user_error("{}: the scale of group {} is NaN", where, g);
      if (code != 0 && code != 127) {
        scales[g] = static_cast<float>(decode_float(kE4M3, code));
      } else {
        std::fill_n(codes + g * scheme.group_size, scheme.group_size, uint8_t{0});
      }
    }
  }
  return tensor;
}

constexpr const char* kReals =
    "adds a real minimum to each block, where other formats have integer zero points";
constexpr const char* kTwoLevels =
    "scales each group by an integer times an FP16 number, which has more digits than a scale elsewhere";

}  // namespace

std::optional<std::string> gguf_not_carried(GgmlType type) {
  using enum GgmlType;
  switch (type) {
    case Q4_1:
    case Q5_1:
      return kReals;
    case Q2_K:
    case Q4_K:
    case Q5_K:
      return fmt::format("{}, and so its minimum", kTwoLevels);
    case Q3_K:
    case Q6_K:
      return kTwoLevels;
    case IQ4_NL:
    case IQ4_XS:
      return "has 16 uneven levels, which no integer codes stand for";
    case IQ1_S:
    case IQ1_M:
    case IQ2_XXS:
    case IQ2_XS:
    case IQ2_S:
    case IQ3_XXS:
    case IQ3_S:
      return "holds vectors of a codebook, which no other format has";
    case Q1_0:
      return "has two levels, d and -d, and no zero point";
    default:
      return std::nullopt;
  }
}

void check_carried(const GgufFile& file, const ModelGraph& graph) {
  for (const GgufTensorRule& rule : gguf_tensors(graph)) {
    if (rule.linear.empty() || !rule.is_matrix() || rule.linear == graph.lm_head().name) continue;
    const GgmlType type = file.tensor(rule.gguf)->type;
    const auto reason = gguf_not_carried(type);
    if (!reason) continue;
    user_error(
        "{}: tensor '{}' is {}, which {}: its codes can't be carried over; quantise the file's weights anew "
        "with --recipe, or take the original model",
        file.path().string(), rule.gguf, traits(type).name, *reason);
  }
}

float gguf_tensor_scale(const GgufFile& file, const GgufTensorRule& rule) {
  constexpr std::string_view kWeight = ".weight";
  if (!rule.gguf.ends_with(kWeight)) return 1;
  const std::string name = rule.gguf.substr(0, rule.gguf.size() - kWeight.size()) + ".scale";
  const GgufTensor* const tensor = file.tensor(name);
  if (tensor == nullptr) return 1;
  const int64_t count = std::max<int64_t>(1, rule.experts);
  if (tensor->type != GgmlType::F32 || tensor->shape != std::vector<int64_t>{count}) {
    user_error("{}: tensor '{}': expected F32 [{}], found {} {}", file.path().string(), name, count,
               traits(tensor->type).name, describe_shape(tensor->shape));
  }
  float scale = 0;
  decode_ggml(GgmlType::F32, tensor->bytes.data() + rule.expert * sizeof scale, 1, &scale);
  if (std::isfinite(scale) && scale > 0) return scale;
  user_error("{}: tensor '{}': the scale at [{}] is {:g}: expected a positive number", file.path().string(),
             name, rule.expert, scale);
}

GgufReader::GgufReader(std::shared_ptr<const GgufFile> file, const ModelGraph& graph,
                       std::map<std::string, TensorInfo> tensors)
    : file_(std::move(file)), tensors_(std::move(tensors)) {
  for (GgufTensorRule& rule : gguf_tensors(graph)) {
    if (rule.linear.empty() || !rule.is_matrix()) continue;
    const GgmlType type = file_->tensor(rule.gguf)->type;
    const auto scheme = grid_of(type);
    if (!scheme) continue;
    schemes_[rule.linear] = *scheme;
    rules_[rule.linear] = std::move(rule);
  }
}

QuantizedTensor GgufReader::read_blocks(const std::string& linear, const uint8_t* bytes) const {
  const GgufTensorRule& rule = rules_.at(linear);
  const GgmlType type = file_->tensor(rule.gguf)->type;
  Unpacked unpacked(schemes_.at(linear), type, rule.shape[0], rule.shape[1]);
  for (int64_t b = 0; b < unpacked.blocks(); ++b, bytes += traits(type).bytes) {
    if (!unpacked.take(b, bytes))
      user_error("{}: tensor '{}': the scale of block {} is not a finite number", file_->path().string(),
                 rule.gguf, b);
  }
  return unpacked.finish();
}

QuantizedTensor GgufReader::read(const std::string& linear) const {
  const GgufTensorRule& rule = rules_.at(linear);
  const GgufTensor& tensor = *file_->tensor(rule.gguf);
  const int64_t rows = rule.shape[0], columns = rule.shape[1];
  const auto* bytes = reinterpret_cast<const uint8_t*>(tensor.bytes.data()) +
                      rule.first_row() * row_bytes(tensor.type, columns);
  const std::string where = fmt::format("{}: tensor '{}'", file_->path().string(), rule.gguf);
  const float scale = gguf_tensor_scale(*file_, rule);
  if (tensor.type != GgmlType::NVFP4 && scale != 1)
    user_error("{}: has a scale of its own beside it, {:g}, which its codes can't carry", where, scale);
  QuantizedTensor result = tensor.type == GgmlType::NVFP4 ? read_nvfp4(bytes, rows, columns, scale, where)
                                                          : read_blocks(linear, bytes);
  file_->release(tensor, tensor.bytes);
  if (rule.heads > 0) {
    const at::Tensor order = halved_rows(rows, rule.heads);
    for (at::Tensor* part : {&result.codes, &result.scales, &result.zero_points})
      if (part->defined()) *part = part->index_select(0, order);
  }
  return result;
}

}  // namespace lathe
