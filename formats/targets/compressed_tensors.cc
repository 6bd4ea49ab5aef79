#include "formats/targets/compressed_tensors.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "formats/targets/bitpack.h"
#include "formats/targets/code_words.h"
#include "formats/targets/float_quantized.h"
#include "formats/targets/int_quantized.h"
#include "formats/targets/kv_cache_format.h"
#include "formats/targets/rotation_format.h"
#include "formats/targets/stored_scales.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using nlohmann::json;

/// Version of the library whose layout this is and that the peer test loads our artefacts with.
constexpr const char* kLibraryVersion = "0.19.0";

/// All routed experts of a model, as a target.
constexpr const char* kExperts = "re:.*\\.experts\\.\\d+\\..*";

/// The largest group size up to `most` that a recipe takes and that divides a row of `in` values; 0: none.
int64_t largest_group(int64_t in, int64_t most) {
  constexpr int64_t kStep = 8;  // recipes take multiples of it
  int64_t group = std::min(in, most) / kStep * kStep;
  while (group > 0 && in % group != 0) group -= kStep;
  return group;
}

/// In words: a group size below `wanted` that divides a row of `in` values. One that kernels have comes
/// first: Marlin, by which vLLM and SGLang compute, has 128, 64 and 32 (formats/consumers), and they refuse
/// others.
std::string nearest_group(int64_t in, int64_t wanted) {
  for (const int64_t group : {128, 64, 32})
    if (group < wanted && in % group == 0) return fmt::format("use {}, ", group);
  if (const int64_t group = largest_group(in, wanted); group > 0)
    return fmt::format(
        "use {} (no group size that Marlin in vLLM and SGLang has divides them: 128, 64 or 32), ", group);
  return "no multiple of 8 below does: use ";
}

/// What consumers can't load of a mixture of experts. transformers (5.17, DecompressExperts) and vLLM
/// (CompressedTensorsWNA16MoEMethod) read experts without zero points; in both the gates are no quantisable
/// modules.
std::optional<std::string> refuses_experts(const PlannedLinear& linear) {
  if (linear.role == LinearRole::router || linear.role == LinearRole::shared_expert_gate) {
    return fmt::format("a quantised {} is read neither by transformers nor by vLLM; add '{}' to `ignore`",
                       name_of(linear.role), name_of(linear.role));
  }
  if (linear.expert && !linear.scheme.symmetric) {
    return "neither transformers nor vLLM reads zero points of experts; use `symmetric: true` for them, in a "
           "rule of their own (target `expert`) before this one";
  }
  if (linear.expert && linear.scheme.hadamard > 0) {
    return "its input is rotated (transform hadamard), which vLLM does for no experts; leave them out with "
           "`ignore`, or the transform";
  }
  return std::nullopt;
}

std::optional<std::string> refuses(const PlannedLinear& linear) {
  const Scheme& scheme = linear.scheme;
  if (scheme.scale_grid) {
    return "scales that are codes themselves (scale_bits) and outliers can't be stored: use output format "
           "spqr";
  }
  if (const auto reason = refuses_experts(linear)) return reason;
  if (scheme.float_grid() != nullptr) return float_quantized_refuses(linear);
  if (linear.activations) {
    if (const auto reason = int_quantized_refuses(linear)) return reason;
  }
  if (linear.group_index) {
    return "its readers refuse the group indices (weight_g_idx) of reordered groups; set the solver's "
           "static_groups: true, or act_order: gar or none";
  }
  if (scheme.type != "int") {
    return fmt::format("scheme type '{}' can't be stored: pack-quantized holds int only", scheme.type);
  }
  if (scheme.bits < 2 || scheme.bits > 8) {
    return fmt::format("bits {} can't be stored: pack-quantized holds 2 to 8", scheme.bits);
  }
  if (scheme.real_zero) {
    return "real zero points can't be stored: use `zero_point: integer`, or format hqq";
  }
  if (scheme.axis != 1)
    return fmt::format("axis {} can't be stored: use `axis: 1`, or format hqq", scheme.axis);
  if (scheme.group_size != -1 && scheme.group_size < 1) {
    return fmt::format("group_size {}: expected a positive number, or -1 for one group a row",
                       scheme.group_size);
  }
  if (linear.out < 1 || linear.in < 1) return fmt::format("shape [{}, {}] is empty", linear.out, linear.in);
  if (!scheme.divides(linear.in)) {
    return fmt::format(
        "group_size {} does not divide the {} input features; {}-1 for one group a row, or leave this linear "
        "out with `ignore`",
        scheme.group_size, linear.in, nearest_group(linear.in, scheme.group_size));
  }
  if (linear.scale_dtype != DType::F16 && linear.scale_dtype != DType::BF16 &&
      linear.scale_dtype != DType::F32) {
    return fmt::format("scales of type {} can't be stored: expected F16, BF16 or F32",
                       name_of(linear.scale_dtype));
  }
  return std::nullopt;
}

/// The matrix that inputs are rotated by, as llm-compressor's modules hold it, without its root. vLLM's
/// kernels for NVFP4 read it, and share what was read last; it stands with every linear, so that each part of
/// a model that is cut in a pipeline has one. Plain +1 and -1: any type holds them.
constexpr DType kRotationType = DType::F16;

std::vector<PlannedTensor> weight_layout(const PlannedLinear& linear) {
  if (linear.scheme.float_grid() != nullptr) return float_quantized_layout(linear);
  if (is_int_quantized(linear.scheme, linear.activations)) return int_quantized_layout(linear);
  const Scheme& scheme = linear.scheme;
  const int64_t groups = scheme.groups(linear.in);
  // Widest elements first, so that a shard that starts aligned stays aligned for every even number of scales.
  std::vector<PlannedTensor> tensors = {
      {linear.name + ".weight_shape", {DType::I64, {2}}},
      {linear.name + ".weight_packed", {DType::I32, {linear.out, packed_words(linear.in, scheme.bits)}}}};
  if (!scheme.symmetric) {
    tensors.push_back(
        {linear.name + ".weight_zero_point", {DType::I32, {packed_words(linear.out, scheme.bits), groups}}});
  }
  tensors.push_back({linear.name + ".weight_scale", {linear.scale_dtype, {linear.out, groups}}});
  return tensors;
}

std::vector<PlannedTensor> layout(const PlannedLinear& linear) {
  std::vector<PlannedTensor> tensors = weight_layout(linear);
  const int64_t block = linear.scheme.hadamard;
  if (block > 0)
    tensors.push_back({linear.name + rotation_suffix(kRotation), {kRotationType, {block, block}}});
  return tensors;
}

std::vector<std::pair<std::string, at::Tensor>> pack_weight(const std::string& name,
                                                            const QuantizedTensor& tensor) {
  if (tensor.scheme.float_grid() != nullptr) return float_quantized_pack(name, tensor);
  if (tensor.input && is_int_quantized(tensor.scheme, tensor.input->scheme))
    return int_quantized_pack(name, tensor);
  const int bits = tensor.scheme.bits;
  LATHE_ASSERT(tensor.scheme.symmetric != tensor.zero_points.defined(), "{}: zero points against the scheme",
               name);
  std::vector<std::pair<std::string, at::Tensor>> tensors = {
      {name + ".weight_shape", at::tensor({tensor.rows(), tensor.cols()}, at::kLong)},
      {name + ".weight_packed", pack_row_words(tensor.codes.cpu().contiguous(), bits)}};
  if (tensor.zero_points.defined()) {
    const at::Tensor along_out = to_fields(tensor.zero_points.cpu().t(), bits);
    tensors.emplace_back(name + ".weight_zero_point", pack_rows(along_out, bits).t().contiguous());
  }
  tensors.emplace_back(name + ".weight_scale", stored_scales(name, tensor.scales, tensor.scale_dtype));
  return tensors;
}

std::vector<std::pair<std::string, at::Tensor>> pack(const std::string& name, const QuantizedTensor& tensor) {
  auto tensors = pack_weight(name, tensor);
  if (tensor.scheme.hadamard > 0)
    tensors.emplace_back(name + rotation_suffix(kRotation),
                         rotation_signs(tensor.scheme.hadamard).to(at::kHalf));
  return tensors;
}

json weights_json(const Scheme& scheme) {
  if (scheme.float_grid() != nullptr) return float_weights_json(scheme);
  json weights = {{"num_bits", scheme.bits},
                  {"type", scheme.type},
                  {"symmetric", scheme.symmetric},
                  {"strategy", scheme.group_size == -1 ? "channel" : "group"},
                  {"dynamic", false}};
  if (scheme.group_size != -1) weights["group_size"] = scheme.group_size;  // must be absent for channel
  return weights;
}

/// Linears that are stored alike.
struct Group {
  Scheme scheme;
  std::optional<ActivationScheme> activations;
  std::vector<std::string> names;

  bool holds(const PlannedLinear& linear) const {
    return scheme == linear.scheme && activations == linear.activations;
  }
  const char* format() const {
    if (scheme.float_grid() != nullptr) return float_format_of(scheme);
    return is_int_quantized(scheme, activations) ? kIntQuantized : kPackQuantized;
  }
};

json activations_json(const std::optional<ActivationScheme>& activations) {
  if (!activations) return {};
  return activations->float_grid() != nullptr ? float_activations_json(*activations)
                                              : input_activations_json(*activations);
}

json group_json(const Group& group, std::vector<std::string> targets) {
  return {{"targets", std::move(targets)},
          {"format", group.format()},
          {"weights", weights_json(group.scheme)},
          {"input_activations", activations_json(group.activations)},
          {"output_activations", nullptr}};
}

/// In order of first appearance.
std::vector<Group> groups_of(const std::vector<PlannedLinear>& linears) {
  std::vector<Group> groups;
  for (const PlannedLinear& linear : linears) {
    auto group = std::ranges::find_if(groups, [&](const Group& g) { return g.holds(linear); });
    if (group == groups.end()) group = groups.insert(group, {linear.scheme, linear.activations, {}});
    // Consumers stack experts and look for one scheme for all of them (the plan has seen to it): transformers
    // in the group with such an expression, vLLM under names of its own.
    const std::string name = linear.expert ? kExperts : linear.name;
    if (std::ranges::find(group->names, name) == group->names.end()) group->names.push_back(name);
  }
  return groups;
}

/// An artefact of other tools may have both kinds; one scheme, on all linears, is what Lathe writes.
std::optional<std::string> refuses_model(const std::vector<PlannedLinear>& linears,
                                         const std::vector<std::string>& /*ignored*/) {
  const PlannedLinear& first = linears.front();
  const auto other = std::ranges::find_if(
      linears, [&](const PlannedLinear& linear) { return linear.scheme.hadamard != first.scheme.hadamard; });
  if (other == linears.end()) return std::nullopt;
  return fmt::format(
      "'{}' is {}, '{}' {}: expected inputs that are all rotated in blocks of one size, or none", first.name,
      first.scheme.describe(), other->name, other->scheme.describe());
}

/// As compressed-tensors' TransformConfig: inputs rotated online, columns of the weights already.
json transform_config(const std::vector<PlannedLinear>& linears, const std::vector<std::string>& ignored) {
  const int64_t block = linears.front().scheme.hadamard;
  if (block == 0) return json::object();
  const auto apply = [&](const char* location, bool inverse) {
    return json{{"targets", std::vector<std::string>{"Linear"}},
                {"location", location},
                {"inverse", inverse},
                {"ignore", ignored}};
  };
  return {{"config_groups",
           {{kRotation,
             {{"type", "hadamard"},
              {"apply", {apply("input", false), apply("weight_input", true)}},
              {"randomize", false},
              {"requires_grad", false},
              {"head_dim", block},
              {"precision", "torch.float32"}}}}}};
}

std::vector<std::string> warnings(const std::vector<PlannedLinear>& linears,
                                  const std::vector<std::string>& /*ignored*/) {
  const PlannedLinear& first = linears.front();
  if (first.scheme.hadamard == 0) return {};
  std::vector<std::string> lines = {
      fmt::format("rotated inputs ('{}'): vLLM rotates them, on one GPU; transformers (5.17), SGLang and "
                  "TensorRT-LLM read past transform_config and would compute something else without a word",
                  first.name)};
  const auto biased = std::ranges::find_if(linears, &PlannedLinear::bias);
  if (biased != linears.end()) {
    lines.push_back(
        fmt::format("rotated inputs: vLLM (0.32) takes no bias with them, and '{}' has one", biased->name));
  }
  return lines;
}

json quantization_config(const std::vector<PlannedLinear>& linears, const std::vector<std::string>& ignored) {
  const std::vector<Group> groups = groups_of(linears);
  const char* format = groups.front().format();
  const auto head = std::ranges::find(linears, LinearRole::lm_head, &PlannedLinear::role);
  json config_groups = json::object();
  for (size_t i = 0; i < groups.size(); ++i) {
    // One scheme: the class name, which every consumer knows, and the head's own, whose class in vLLM is
    // another (ParallelLMHead); several: exact module names, which no two groups share.
    std::vector<std::string> targets = groups[i].names;
    if (groups.size() == 1) {
      targets = {"Linear"};
      if (head != linears.end()) targets.push_back(head->name);
    }
    config_groups[fmt::format("group_{}", i)] = group_json(groups[i], std::move(targets));
    if (std::string_view(groups[i].format()) != groups.front().format()) format = kMixedPrecision;
  }
  return {{"quant_method", "compressed-tensors"},
          {"version", kLibraryVersion},
          {"format", format},
          {"quantization_status", "compressed"},
          {"global_compression_ratio", nullptr},
          {"kv_cache_scheme", nullptr},
          {"ignore", ignored},
          {"sparsity_config", json::object()},
          {"transform_config", transform_config(linears, ignored)},
          {"config_groups", std::move(config_groups)}};
}

constexpr const char* kHowToLoad = R"(With transformers (needs the `compressed-tensors` package):

    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained("this/folder")
    tokenizer = AutoTokenizer.from_pretrained("this/folder")

With vLLM:

    vllm serve this/folder

With SGLang:

    python -m sglang.launch_server --model-path this/folder

With TensorRT-LLM:

    trtllm-serve this/folder
)";

}  // namespace

Target compressed_tensors_target() {
  return {.name = "compressed-tensors",
          .summary =
              "safetensors, packed integers of 2 to 8 bits, INT8 and INT4 with INT8 or FP8 activations, FP8, "
              "NVFP4 and MX (vLLM, SGLang, transformers)",
          .how_to_load = kHowToLoad,
          .refuses = refuses,
          .layout = layout,
          .pack = pack,
          .quantization_config = quantization_config,
          .refuses_model = refuses_model,
          .warnings = warnings,
          .kv_cache = &compressed_tensors_kv_cache(),
          .rotations = true,
          .head = true};
}

}  // namespace lathe
