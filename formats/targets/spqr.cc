#include "formats/targets/spqr.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "formats/targets/spqr_tiles.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using nlohmann::json;

/// The one grid of the layout.
const Scheme& only_scheme() {
  static const Scheme scheme = [] {
    Scheme only{"int", kSpqrBits, kSpqrTile, false};
    only.scale_grid = ScaleGrid{kSpqrBits, kSpqrTile};
    return only;
  }();
  return scheme;
}

std::optional<std::string> refuses(const PlannedLinear& linear) {
  if (linear.scheme != only_scheme()) {
    return fmt::format(
        "{} can't be stored: spqr_quant reads {} only (bits: 3, group_size: 16, symmetric: "
        "false, scale_bits: 3, scale_group: 16)",
        linear.scheme.describe(), only_scheme().describe());
  }
  if (linear.out % kSpqrTile != 0 || linear.in % kSpqrTile != 0) {
    return fmt::format(
        "shape [{}, {}] can't be stored: tiles are {} x {}; leave this linear out with `ignore`", linear.out,
        linear.in, kSpqrTile, kSpqrTile);
  }
  if (linear.in > kSpqrMaxColumns) {
    return fmt::format("{} input features can't be stored: columns of outliers are below {}", linear.in,
                       kSpqrMaxColumns);
  }
  if (linear.bias) {
    return "a bias can't be stored: spqr_quant's linears have none; leave this linear out with `ignore`";
  }
  if (linear.expert || linear.role == LinearRole::router || linear.role == LinearRole::shared_expert_gate) {
    return "linears of a mixture of experts can't be stored: transformers looks for none of this kind";
  }
  return std::nullopt;
}

std::vector<PlannedTensor> layout(const PlannedLinear& linear) {
  const std::string name = linear.name + ".";
  return {{name + "dense_weights", {DType::I64, {linear.out * linear.in / kSpqrTile}}},
          {name + "row_offsets", {DType::I32, {linear.out + 1}}},
          {name + "in_perm", {DType::I32, {linear.in / 2}}},
          {name + "col_vals", {DType::I32, {linear.out * linear.in}}, /*open=*/true}};
}

/// Long [in]: the weight's column that stands at each place.
at::Tensor column_order(const QuantizedTensor& tensor) {
  if (!tensor.group_index.defined()) return at::arange(tensor.cols(), at::kLong);
  return at::argsort(tensor.group_index, /*stable=*/true, 0);
}

/// Pairs of 16-bit numbers as Int.
at::Tensor pairs_of_16(const at::Tensor& numbers) {
  return numbers.to(at::kShort).contiguous().view(at::kInt);
}

/// Int [n]; columns are places in the permuted order, ascending in each row.
at::Tensor column_values(const Outliers& outliers, const at::Tensor& order, int64_t in) {
  at::Tensor place = at::empty_like(order);
  place.index_copy_(0, order, at::arange(in, at::kLong));
  const at::Tensor columns = place.index_select(0, outliers.columns.to(at::kLong));
  const at::Tensor row = at::arange(outliers.row_offsets.numel() - 1, at::kLong)
                             .repeat_interleave(outliers.row_offsets.diff().to(at::kLong));
  const at::Tensor sorted = at::argsort(row * in + columns);
  const at::Tensor values = outliers.values.index_select(0, sorted);
  const at::Tensor fields =
      at::stack({columns.index_select(0, sorted).to(at::kShort), values.to(at::kHalf).view(at::kShort)}, 1);
  return fields.contiguous().view(at::kInt).view({-1});
}

std::vector<std::pair<std::string, at::Tensor>> pack(const std::string& name, const QuantizedTensor& tensor) {
  LATHE_ASSERT(tensor.scheme == only_scheme() && tensor.second_level, "{}: {}", name,
               tensor.scheme.describe());
  const at::Tensor order = column_order(tensor);
  const at::Tensor codes =
      (tensor.codes.index_select(1, order).to(at::kShort) - tensor.scheme.qmin()).to(at::kByte);
  const Outliers none{at::zeros({tensor.rows() + 1}, at::kInt), at::empty({0}, at::kInt), at::empty({0})};
  const Outliers& outliers = tensor.outliers ? *tensor.outliers : none;
  return {{name + ".dense_weights", pack_spqr_tiles(codes, *tensor.second_level)},
          {name + ".row_offsets", outliers.row_offsets.contiguous()},
          {name + ".in_perm", pairs_of_16(order)},
          {name + ".col_vals", column_values(outliers, order, tensor.cols())}};
}

json quantization_config(const std::vector<PlannedLinear>& linears, const std::vector<std::string>& ignored) {
  json shapes = json::object(), kept = json::array();
  for (const PlannedLinear& linear : linears) {
    for (const PlannedTensor& tensor : layout(linear)) {
      shapes[tensor.name + ".shape"] = tensor.open ? linear.outliers : tensor.info.shape.front();
    }
  }
  // Modules are meant; before its version 5, transformers compared with the names of weights.
  for (const std::string& name : ignored) kept.insert(kept.end(), {name, name + ".weight"});
  return {{"quant_method", "spqr"},      {"bits", kSpqrBits},
          {"beta1", kSpqrTile},          {"beta2", kSpqrTile},
          {"shapes", std::move(shapes)}, {"modules_to_not_convert", std::move(kept)}};
}

constexpr const char* kHowToLoad =
    R"(With the spqr_quant library (0.2.0), on a GPU, in a model that transformers builds:

    import glob, torch
    from safetensors.torch import load_file
    from spqr_quant import QuantizedLinear
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    folder, device, dtype = "this/folder", "cuda", torch.float16
    tensors = {k: v for file in glob.glob(f"{folder}/*.safetensors") for k, v in load_file(file).items()}
    config = AutoConfig.from_pretrained(folder)
    spqr = config.quantization_config
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.load_state_dict(tensors, strict=False)
    parts = ["dense_weights", "row_offsets", "col_vals", "in_perm"]
    for name in [k.removesuffix(".in_perm") for k in tensors if k.endswith(".in_perm")]:
        dense = model.get_submodule(name)
        shapes = {f"{part}_shape": spqr["shapes"][f"{name}.{part}.shape"] for part in parts}
        linear = QuantizedLinear.create_placehodler(dense.out_features, dense.in_features, spqr["bits"], spqr["beta1"], spqr["beta2"], **shapes)
        linear.load_state_dict({part: tensors[f"{name}.{part}"] for part in parts})
        model.set_submodule(name, linear)
    model.to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

transformers' own loader stops (5.17, spqr_quant 0.2.0): it calls `create_placeholder`, and looks for a linear by its whole name among the
model's children. `quantize eval --model this/folder` scores it on any machine.
)";

}  // namespace

Target spqr_target() {
  return {.name = "spqr",
          .summary = "safetensors, SpQR's 3-bit tiles with sparse outliers (spqr_quant)",
          .how_to_load = kHowToLoad,
          .refuses = refuses,
          .layout = layout,
          .pack = pack,
          .quantization_config = quantization_config};
}

}  // namespace lathe
