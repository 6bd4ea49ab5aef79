#include "formats/targets/gptq.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "formats/targets/bitpack.h"
#include "formats/targets/code_words.h"
#include "formats/targets/float_reader.h"
#include "formats/targets/gptq_config.h"
#include "formats/targets/group_rules.h"
#include "formats/targets/stored_scales.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using nlohmann::json;

/// What version 1 takes away before it stores a zero point.
constexpr int64_t offset_of(GptqVersion version) { return version == GptqVersion::v1 ? 1 : 0; }

/// 1 in every field of a word, for widths that divide 32.
constexpr int64_t ones(int bits) {
  int64_t word = 0;
  for (int at = 0; at < 32; at += bits) word |= int64_t{1} << at;
  return word;
}

/// The whole word plus 1 in every field, with carries from one to the next: GPTQModel's way from version 1
/// to version 2.
at::Tensor add_to_words(const at::Tensor& words, int bits) {
  const at::Tensor sum = words.to(at::kLong).bitwise_and(0xffffffff) + ones(bits);
  return sum.to(at::kInt).contiguous();  // the low 32 bits
}

std::optional<std::string> refuses(const PlannedLinear& linear) {
  if (const auto reason = gptq_layout_refuses(linear)) return reason;
  // GPTQModel's TorchLinear, the reader of most sizes.
  return refuses_group_size(linear, {16, 32, 64, 128, 256, 512, 1024}, "GPTQModel reads groups of");
}

at::Tensor group_indices(const QuantizedTensor& tensor) {
  if (tensor.group_index.defined()) return tensor.group_index.cpu().contiguous();
  return at::arange(tensor.cols(), at::kInt).div_(tensor.scheme.group_length(tensor.cols()), "floor");
}

/// Of codes that come from elsewhere: a run's own grids have no such zero point.
void check_version_1(const std::string& name, const at::Tensor& zeros, const Scheme& scheme) {
  const at::Tensor lowest = zeros.eq(scheme.qmin());
  if (!lowest.any().item<bool>()) return;
  user_error(
      "{}: the zero point at {} (output, group) is 0, for which version 1 of GPTQ's files has no number; use "
      "output format gptq-v2",
      name, first_index(lowest));
}

template <GptqVersion kVersion>
std::vector<std::pair<std::string, at::Tensor>> pack(const std::string& name, const QuantizedTensor& tensor) {
  const int bits = tensor.scheme.bits;
  LATHE_ASSERT(tensor.scheme.symmetric != tensor.zero_points.defined(), "{}: zero points against the scheme",
               name);
  const at::Tensor scales = tensor.scales.cpu();
  const at::Tensor zeros =
      tensor.scheme.symmetric ? at::zeros_like(scales, at::kChar) : tensor.zero_points.cpu();
  if (kVersion == GptqVersion::v1) check_version_1(name, zeros, tensor.scheme);
  return {{name + ".qweight", pack_gptq_words(tensor.codes.cpu().contiguous(), bits)},
          {name + ".qzeros", pack_gptq_zeros(zeros, bits, kVersion)},
          {name + ".g_idx", group_indices(tensor)},
          {name + ".scales", stored_scales(name, scales.t(), tensor.scale_dtype)}};
}

template <GptqVersion kVersion>
json quantization_config(const std::vector<PlannedLinear>& linears, const std::vector<std::string>& ignored) {
  return gptq_quantization_config(linears, ignored, kVersion);
}

template <GptqVersion kVersion>
std::vector<std::string> warnings(const std::vector<PlannedLinear>& linears,
                                  const std::vector<std::string>&) {
  return gptq_warnings(linears, kVersion);
}

constexpr const char* kHowToLoad =
    R"(With GPTQModel, on any device:

    from gptqmodel import GPTQModel
    model = GPTQModel.load("this/folder")

With transformers (needs the `gptqmodel` and `optimum` packages):

    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained("this/folder")

With vLLM:

    vllm serve this/folder

With SGLang:

    python -m sglang.launch_server --model-path this/folder
)";

template <GptqVersion kVersion>
Target target(const char* name, const char* summary) {
  return {.name = name,
          .summary = summary,
          .how_to_load = kHowToLoad,
          .refuses = refuses,
          .layout = gptq_layout,
          .pack = pack<kVersion>,
          .quantization_config = quantization_config<kVersion>,
          .side_files = gptq_side_files,
          .refuses_model = nullptr,
          .warnings = warnings<kVersion>,
          .zero_above_lowest = kVersion == GptqVersion::v1,
          .head = true};
}

}  // namespace

const char* checkpoint_format_of(GptqVersion version) {
  return version == GptqVersion::v1 ? "gptq" : "gptq_v2";
}

Target gptq_target() {
  return target<GptqVersion::v1>(
      "gptq",
      "safetensors, GPTQ's packed integers of 2, 3, 4 or 8 bits (transformers, SGLang, ExLlama; symmetric: "
      "GPTQModel, vLLM, too)");
}

Target gptq_v2_target() {
  return target<GptqVersion::v2>(
      "gptq-v2", "the same with zero points as they are, so that 0 is one (GPTQModel, transformers, SGLang)");
}

std::optional<std::string> gptq_layout_refuses(const PlannedLinear& linear) {
  const int bits = linear.scheme.bits;
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8)
    return fmt::format("bits {} can't be stored: GPTQ holds 2, 3, 4 and 8", bits);
  if (const auto reason = refuses_plain_groups(linear, "GPTQ")) return reason;
  if (linear.in * bits % 32 == 0 && linear.out * bits % 32 == 0) return std::nullopt;
  return fmt::format(
      "shape [{}, {}] can't be stored: rows and columns of {} bits must fill words of 32 (multiples of {}); "
      "leave this linear out with `ignore`",
      linear.out, linear.in, bits, bits == 3 ? 32 : 32 / bits);
}

std::vector<PlannedTensor> gptq_layout(const PlannedLinear& linear) {
  const int bits = linear.scheme.bits;
  const int64_t groups = linear.scheme.groups(linear.in);
  return {{linear.name + ".qweight", {DType::I32, {packed_words(linear.in, bits), linear.out}}},
          {linear.name + ".qzeros", {DType::I32, {groups, packed_words(linear.out, bits)}}},
          {linear.name + ".g_idx", {DType::I32, {linear.in}}},
          {linear.name + ".scales", {linear.scale_dtype, {groups, linear.out}}}};
}

at::Tensor pack_gptq_zeros(const at::Tensor& zero_points, int bits, GptqVersion version) {
  at::Tensor fields = to_fields(zero_points.t(), bits);
  const int64_t offset = offset_of(version);
  LATHE_ASSERT(offset == 0 || fields.gt(0).all().item<bool>(), "a zero point of 0 in version 1");
  return pack_rows(fields.sub_(offset), bits);
}

std::optional<at::Tensor> unpack_gptq_zeros(const at::Tensor& qzeros, int bits, int64_t out,
                                            GptqVersion version, GptqBorrow borrow) {
  if (version == GptqVersion::v1 && borrow == GptqBorrow::whole_words && bits != 3)
    return unpack_gptq_zeros(add_to_words(qzeros, bits), bits, out, GptqVersion::v2, borrow);
  at::Tensor fields = unpack_rows(qzeros.contiguous(), bits, out);
  if (version == GptqVersion::v1) {
    const int64_t largest = (int64_t{1} << bits) - 1;
    if (borrow == GptqBorrow::refuse && fields.eq(largest).any().item<bool>()) return std::nullopt;
    fields = fields.add_(1).bitwise_and_(largest);
  }
  return to_signed(fields.t(), bits);
}

}  // namespace lathe
