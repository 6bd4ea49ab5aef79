#include "formats/targets/awq.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "formats/targets/awq_config.h"
#include "formats/targets/bitpack.h"
#include "formats/targets/code_words.h"
#include "formats/targets/group_rules.h"
#include "formats/targets/stored_scales.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using nlohmann::json;
constexpr int64_t kFields = 32 / kAwqBits;

/// Words of zero points in a row of the GEMV layout (AutoAWQ's calculate_zeros_width).
int64_t gemv_zero_words(const PlannedLinear& linear) {
  const int64_t length = linear.scheme.group_length(linear.in);
  const int64_t multiple = length >= 128 ? 1 : length == 64 ? 2 : 4;
  return ceil_div(ceil_div(linear.scheme.groups(linear.in), kFields), multiple) * multiple;
}

template <AwqVersion kVersion>
std::optional<std::string> refuses(const PlannedLinear& linear) {
  if (const auto reason = awq_layout_refuses(linear, kVersion)) return reason;
  if (kVersion == AwqVersion::gemv) return std::nullopt;
  // GPTQModel's AwqTorchLinear, and vLLM's Marlin but for 16.
  return refuses_group_size(linear, {16, 32, 64, 128}, "consumers of AWQ read groups of");
}

at::Tensor zero_points_of(const QuantizedTensor& tensor) {
  return tensor.zero_points.defined() ? tensor.zero_points.cpu() : at::zeros_like(tensor.scales, at::kChar);
}

using Contents = std::vector<std::pair<std::string, at::Tensor>>;

Contents pack_gemm(const std::string& name, const QuantizedTensor& tensor) {
  // [out, G] is to qzeros what [out, in] is to qweight.
  return {{name + ".qweight", pack_awq_words(tensor.codes.cpu().contiguous())},
          {name + ".qzeros", pack_awq_words(zero_points_of(tensor).contiguous())},
          {name + ".scales", stored_scales(name, tensor.scales.t(), tensor.scale_dtype)}};
}

Contents pack_gemv(const std::string& name, const QuantizedTensor& tensor) {
  PlannedLinear shape{.name = name, .out = tensor.rows(), .in = tensor.cols(), .scheme = tensor.scheme};
  const int64_t width = gemv_zero_words(shape) * kFields, groups = tensor.scales.size(1);
  const at::Tensor zeros =
      at::constant_pad_nd(to_fields(zero_points_of(tensor), kAwqBits), {0, width - groups});
  const at::Tensor scales = at::constant_pad_nd(tensor.scales.cpu(), {0, width - groups});
  return {{name + ".qweight", pack_row_words(tensor.codes.cpu().contiguous(), kAwqBits)},
          {name + ".qzeros", pack_rows(zeros.contiguous(), kAwqBits)},
          {name + ".scales", stored_scales(name, scales, tensor.scale_dtype)}};
}

template <AwqVersion kVersion>
Contents pack(const std::string& name, const QuantizedTensor& tensor) {
  LATHE_ASSERT(tensor.scheme.bits == kAwqBits && !tensor.group_index.defined(), "{}: {}", name,
               tensor.scheme.describe());
  return kVersion == AwqVersion::gemm ? pack_gemm(name, tensor) : pack_gemv(name, tensor);
}

template <AwqVersion kVersion>
std::vector<PlannedTensor> layout(const PlannedLinear& linear) {
  return awq_layout(linear, kVersion);
}

template <AwqVersion kVersion>
json quantization_config(const std::vector<PlannedLinear>& linears, const std::vector<std::string>& ignored) {
  return awq_quantization_config(linears, ignored, kVersion);
}

constexpr const char* kHowToLoad = R"(With transformers (needs the `gptqmodel` package):

    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained("this/folder")

With GPTQModel:

    from gptqmodel import GPTQModel
    model = GPTQModel.load("this/folder")

With vLLM:

    vllm serve this/folder

With SGLang:

    python -m sglang.launch_server --model-path this/folder
)";

constexpr const char* kHowToLoadGemv =
    R"(With GPTQModel, on a GPU and in FP16 (vLLM and SGLang don't read this layout):

    from gptqmodel import GPTQModel
    model = GPTQModel.load("this/folder")

With AutoAWQ, likewise:

    from awq import AutoAWQForCausalLM
    model = AutoAWQForCausalLM.from_quantized("this/folder")
)";

template <AwqVersion kVersion>
Target target(const char* name, const char* summary, const char* how_to_load) {
  return {.name = name,
          .summary = summary,
          .how_to_load = how_to_load,
          .refuses = refuses<kVersion>,
          .layout = layout<kVersion>,
          .pack = pack<kVersion>,
          .quantization_config = quantization_config<kVersion>,
          .side_files = awq_side_files,
          .refuses_model = awq_refuses_model,
          .warnings = awq_warnings};
}

}  // namespace

const char* name_of(AwqVersion version) { return version == AwqVersion::gemm ? "gemm" : "gemv"; }

Target awq_target() {
  return target<AwqVersion::gemm>(
      "awq", "safetensors, AWQ's GEMM layout of 4-bit weights (vLLM, SGLang, transformers, GPTQModel)",
      kHowToLoad);
}

Target awq_gemv_target() {
  return target<AwqVersion::gemv>(
      "awq-gemv", "safetensors, AWQ's GEMV layout of 4-bit weights (GPTQModel, AutoAWQ)", kHowToLoadGemv);
}

std::optional<std::string> awq_layout_refuses(const PlannedLinear& linear, AwqVersion version) {
  if (linear.scheme.bits != kAwqBits)
    return fmt::format("bits {} can't be stored: AWQ holds 4", linear.scheme.bits);
  if (const auto reason = refuses_plain_groups(linear, "AWQ")) return reason;
  if (linear.group_index) {
    return "reordered groups can't be stored: AWQ has no group indices; set the solver's static_groups: "
           "true, or "
           "act_order: gar or none, or use output format gptq";
  }
  const bool gemv = version == AwqVersion::gemv;
  if ((gemv ? linear.in : linear.out) % kFields != 0) {
    return fmt::format(
        "{} {} features can't be stored: AWQ packs eight of them in a word; leave this linear out "
        "with `ignore`",
        gemv ? linear.in : linear.out, gemv ? "input" : "output");
  }
  const int64_t length = linear.scheme.group_length(linear.in);
  if (gemv && length < 128 && length != 64 && length != 32) {
    return fmt::format("groups of {} can't be stored: AWQ's GEMV layout has groups of 32, 64, 128 and more",
                       length);
  }
  return std::nullopt;
}

std::vector<PlannedTensor> awq_layout(const PlannedLinear& linear, AwqVersion version) {
  const int64_t groups = linear.scheme.groups(linear.in), out = linear.out, in = linear.in;
  if (version == AwqVersion::gemm) {
    return {{linear.name + ".qweight", {DType::I32, {in, out / kFields}}},
            {linear.name + ".qzeros", {DType::I32, {groups, out / kFields}}},
            {linear.name + ".scales", {linear.scale_dtype, {groups, out}}}};
  }
  const int64_t words = gemv_zero_words(linear);
  return {{linear.name + ".qweight", {DType::I32, {out, in / kFields}}},
          {linear.name + ".qzeros", {DType::I32, {out, words}}},
          {linear.name + ".scales", {linear.scale_dtype, {out, words * kFields}}}};
}

at::Tensor unpack_awq_codes(const at::Tensor& qweight, AwqVersion version) {
  if (version == AwqVersion::gemm) return unpack_awq_words(qweight);
  return unpack_row_words(qweight, kAwqBits, qweight.size(1) * kFields);
}

at::Tensor unpack_awq_zeros(const at::Tensor& qzeros, int64_t groups, AwqVersion version) {
  if (version == AwqVersion::gemm) return unpack_awq_words(qzeros);
  const at::Tensor fields = unpack_rows(qzeros, kAwqBits, qzeros.size(1) * kFields);
  return to_signed(fields.narrow(1, 0, groups), kAwqBits);
}

}  // namespace lathe
