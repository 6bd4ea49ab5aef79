#include "formats/targets/hqq.h"

#include <ATen/ATen.h>

#include <array>

#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

using nlohmann::json;

/// What HQQLinear keeps about itself: all as for a layer that was quantised in the library with its defaults.
constexpr std::array<std::pair<const char*, bool>, 9> kFlags = {{{"channel_wise", true},
                                                                 {"encoded_state_dict", true},
                                                                 {"offload_meta", false},
                                                                 {"optimize", true},
                                                                 {"quant_scale", false},
                                                                 {"quant_zero", false},
                                                                 {"round_zero", false},
                                                                 {"stores_quant_config", true},
                                                                 {"view_as_float", false}}};

/// Rows and columns of the matrix that is packed.
std::array<int64_t, 2> grouped_shape(const Scheme& scheme, int64_t out, int64_t in) {
  const int64_t length = scheme.group_length(out, in), groups = out * in / length;
  if (scheme.axis == 0) return {length, groups};
  return {groups, length};
}

std::array<int64_t, 2> packed_shape(const Scheme& scheme, int64_t out, int64_t in) {
  const auto [rows, columns] = grouped_shape(scheme, out, in);
  return {ceil_div(rows, int64_t{hqq_packing(scheme.bits).fields}), columns};
}

/// Integer zero points are real numbers as well: from 0 they are at most 255, which every type of scales
/// holds.
std::optional<std::string> refuses(const PlannedLinear& linear) {
  const Scheme& scheme = linear.scheme;
  if (scheme.type != "int")
    return fmt::format("scheme type '{}' can't be stored: hqq holds int only", scheme.type);
  if (linear.activations) {
    return "quantised activations can't be stored: hqq holds weights only; use output format "
           "compressed-tensors";
  }
  if (scheme.bits == 7) return "bits 7: the hqq library has 1 to 6 and 8";
  if (linear.group_index) return "groups of columns in another order (g_idx) can't be stored";
  if (scheme.scale_grid) return "scales on a grid of their own can't be stored: leave out scale_bits";
  if (const auto reason = scheme.problem(linear.out, linear.in)) return reason;
  const HqqPacking packing = hqq_packing(scheme.bits);
  const int64_t rows = grouped_shape(scheme, linear.out, linear.in)[0];
  if (!packing.words && rows % packing.fields != 0) {
    return fmt::format(
        "{} packs {} rows of groups in a byte, and there are {}; use another group_size or axis",
        packing.name, packing.fields, rows);
  }
  return std::nullopt;
}

/// What torch.nn.Module calls a type.
std::string type_name(DType dtype) {
  if (dtype == DType::F16) return "torch.float16";
  return dtype == DType::BF16 ? "torch.bfloat16" : "torch.float32";
}

/// Facts that are words.
std::array<std::pair<const char*, std::string>, 3> fact_texts(const PlannedLinear& linear) {
  const HqqPacking packing = hqq_packing(linear.scheme.bits);
  return {{{"packing", packing.name},
           {"unpack_view_dtype", packing.words ? "torch.int32" : "torch.uint8"},
           {"compute_dtype", type_name(linear.scale_dtype)}}};
}

at::Tensor characters(const std::string& text) {
  const std::vector<uint8_t> bytes(text.begin(), text.end());
  return at::tensor(bytes, at::kByte);
}

at::Tensor number(int64_t value) { return at::scalar_tensor(value, at::kInt); }

std::vector<std::pair<std::string, at::Tensor>> pack(const std::string& name, const QuantizedTensor& tensor) {
  const auto groups = tensor.scales.numel();
  LATHE_ASSERT(tensor.scheme.symmetric != tensor.zero_points.defined(), "{}: zero points against the scheme",
               name);
  const at::Tensor zeros = tensor.scheme.symmetric ? at::zeros_like(tensor.scales) : tensor.zero_points;
  const std::vector<int64_t> shape =
      tensor.scheme.axis == 0 ? std::vector<int64_t>{1, groups} : std::vector<int64_t>{groups, 1};
  const auto stored = [&](const at::Tensor& values) {
    const at::Tensor exact = values.cpu().contiguous().view(shape);
    at::Tensor result = exact.to(to_scalar_type(tensor.scale_dtype)).contiguous();
    LATHE_ASSERT(result.to(at::kFloat).equal(exact), "{}: scales or zero points that {} can't hold", name,
                 name_of(tensor.scale_dtype));
    return result;
  };
  const PlannedLinear linear{.name = name,
                             .out = tensor.rows(),
                             .in = tensor.cols(),
                             .scheme = tensor.scheme,
                             .scale_dtype = tensor.scale_dtype};
  std::vector<std::pair<std::string, at::Tensor>> tensors = {
      {name + ".W_q", hqq_pack(tensor.codes.cpu(), tensor.scheme)},
      {name + ".scale", stored(tensor.scales)},
      {name + ".zero", stored(zeros.to(at::kFloat) - tensor.scheme.qmin())}};
  for (auto& fact : hqq_facts(linear)) tensors.push_back(std::move(fact));
  return tensors;
}

json weight_params(const PlannedLinear& linear) {
  return {{"weight_quant_params",
           {{"nbits", linear.scheme.bits},
            {"channel_wise", true},
            {"group_size", linear.scheme.group_length(linear.out, linear.in)},
            {"optimize", true},
            {"round_zero", false},
            {"axis", linear.scheme.axis},
            {"view_as_float", false}}},
          {"scale_quant_params", nullptr},
          {"zero_quant_params", nullptr},
          {"offload_meta", false}};
}

/// One entry for all linears, or, where they differ, one for each (transformers' HqqConfig, dynamic_config).
json quantization_config(const std::vector<PlannedLinear>& linears, const std::vector<std::string>& ignored) {
  json by_name = json::object();
  bool uniform = true;
  for (const PlannedLinear& linear : linears) {
    by_name[linear.name] = weight_params(linear);
    uniform = uniform && by_name[linear.name] == by_name[linears.front().name];
  }
  return {{"quant_method", "hqq"},
          {"quant_config", uniform ? weight_params(linears.front()) : by_name},
          {"skip_modules", ignored}};
}

constexpr const char* kHowToLoad =
    R"(With the hqq library (0.2.8), in a model that transformers builds; transformers 5 loads no hqq model by itself that was quantised
before:

    import glob
    from hqq.core.quantize import HQQLinear
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    folder, device = "this/folder", "cuda"
    tensors = {k: v for file in glob.glob(f"{folder}/*.safetensors") for k, v in load_file(file).items()}
    config = AutoConfig.from_pretrained(folder)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=config.dtype)
    packed = [k.removesuffix(".W_q") for k in tensors if k.endswith(".W_q")]
    model.load_state_dict(tensors, strict=False)
    for name in packed:
        layer = HQQLinear(None, None, compute_dtype=config.dtype, device=device)
        layer.load_state_dict({k.removeprefix(name + "."): v for k, v in tensors.items() if k.startswith(name + ".")})
        model.set_submodule(name, layer)
    model.to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

`quantize eval --model this/folder` scores it.
)";

}  // namespace

HqqPacking hqq_packing(int bits) {
  switch (bits) {
    case 1:
      return {"1bit_u8", 8, 1, false};
    case 2:
      return {"2bit_u8", 4, 2, false};
    case 3:
      return {"3bit_32", 10, 3, true};
    case 4:
      return {"4bit_u8", 2, 4, false};
    default:
      LATHE_ASSERT(bits == 5 || bits == 6 || bits == 8, "hqq: {} bits", bits);
      return {"8bit_u8", 1, 8, false};
  }
}

at::Tensor hqq_pack(const at::Tensor& codes, const Scheme& scheme) {
  const HqqPacking packing = hqq_packing(scheme.bits);
  const auto [rows, columns] = grouped_shape(scheme, codes.size(0), codes.size(1));
  const int64_t part = ceil_div(rows, int64_t{packing.fields});
  at::Tensor fields = codes.contiguous().view({rows, columns}).to(at::kInt) - scheme.qmin();
  if (rows < part * packing.fields)
    fields = at::constant_pad_nd(fields, {0, 0, 0, part * packing.fields - rows});
  at::Tensor packed = at::zeros({part, columns}, at::kInt);
  for (int k = 0; k < packing.fields; ++k) {
    packed.bitwise_or_(fields.slice(0, k * part, (k + 1) * part)
                           .bitwise_left_shift(packing.field_bits * (packing.fields - 1 - k)));
  }
  return packing.words ? packed : packed.to(at::kByte);
}

at::Tensor hqq_unpack(const at::Tensor& packed, const Scheme& scheme, int64_t out, int64_t in) {
  const HqqPacking packing = hqq_packing(scheme.bits);
  const int64_t rows = grouped_shape(scheme, out, in)[0];
  const at::Tensor words = packed.to(at::kInt);
  std::vector<at::Tensor> parts;
  for (int k = 0; k < packing.fields; ++k) {
    parts.push_back(words.bitwise_right_shift(packing.field_bits * (packing.fields - 1 - k))
                        .bitwise_and((1 << packing.field_bits) - 1));
  }
  const at::Tensor fields = at::cat(parts).slice(0, 0, rows);
  return (fields + scheme.qmin()).to(at::kChar).contiguous().view({out, in});
}

std::vector<std::pair<std::string, at::Tensor>> hqq_facts(const PlannedLinear& linear) {
  const Scheme& scheme = linear.scheme;
  const std::string prefix = linear.name + ".";
  std::vector<std::pair<std::string, at::Tensor>> facts = {
      {prefix + "shape", at::tensor({linear.out, linear.in}, at::kLong)},
      {prefix + "nbits", number(scheme.bits)},
      {prefix + "group_size", number(scheme.group_length(linear.out, linear.in))},
      {prefix + "axis", number(scheme.axis)}};
  for (const auto& [name, text] : fact_texts(linear)) facts.emplace_back(prefix + name, characters(text));
  for (const auto& [name, value] : kFlags)
    facts.emplace_back(prefix + name, at::scalar_tensor(value ? 1 : 0, at::kByte));
  return facts;
}

std::vector<PlannedTensor> hqq_layout(const PlannedLinear& linear) {
  const Scheme& scheme = linear.scheme;
  const auto [rows, columns] = packed_shape(scheme, linear.out, linear.in);
  const int64_t groups = linear.out * linear.in / scheme.group_length(linear.out, linear.in);
  const std::vector<int64_t> parameters =
      scheme.axis == 0 ? std::vector<int64_t>{1, groups} : std::vector<int64_t>{groups, 1};
  std::vector<PlannedTensor> tensors = {
      {linear.name + ".W_q", {hqq_packing(scheme.bits).words ? DType::I32 : DType::U8, {rows, columns}}},
      {linear.name + ".scale", {linear.scale_dtype, parameters}},
      {linear.name + ".zero", {linear.scale_dtype, parameters}}};
  // As hqq_facts() has them, without making them: a plan asks for tens of thousands of linears.
  const std::string prefix = linear.name + ".";
  tensors.push_back({prefix + "shape", {DType::I64, {2}}});
  for (const char* name : {"nbits", "group_size", "axis"})
    tensors.push_back({prefix + name, {DType::I32, {}}});
  for (const auto& [name, text] : fact_texts(linear))
    tensors.push_back({prefix + name, {DType::U8, {static_cast<int64_t>(text.size())}}});
  for (const auto& [name, value] : kFlags) tensors.push_back({prefix + name, {DType::U8, {}}});
  return tensors;
}

Target hqq_target() {
  return {.name = "hqq",
          .summary =
              "safetensors, what the hqq library's HQQLinear loads: 1 to 6 and 8 bits, real zero points or "
              "integers",
          .how_to_load = kHowToLoad,
          .refuses = refuses,
          .layout = hqq_layout,
          .pack = pack,
          .quantization_config = quantization_config};
}

}  // namespace lathe
