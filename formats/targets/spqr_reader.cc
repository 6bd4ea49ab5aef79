#include "formats/targets/spqr_reader.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>

#include "formats/safetensors/json_text.h"
#include "formats/targets/float_reader.h"
#include "formats/targets/spqr.h"
#include "formats/targets/spqr_tiles.h"
#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

using nlohmann::json;

constexpr std::array kParts = {"dense_weights", "row_offsets", "in_perm", "col_vals"};

Scheme stored_scheme() {
  Scheme scheme{"int", kSpqrBits, kSpqrTile, false};
  scheme.scale_grid = ScaleGrid{kSpqrBits, kSpqrTile};
  return scheme;
}

void check_config(const json& config, const std::string& where) {
  const std::array<std::pair<const char*, int64_t>, 3> fixed = {
      {{"bits", kSpqrBits}, {"beta1", kSpqrTile}, {"beta2", kSpqrTile}}};
  for (const auto& [key, expected] : fixed) {
    const json found = config.value(key, json());
    if (!found.is_number_integer() || found != expected) {
      user_error("{}.{}: expected {}, found {}", where, key, expected, quote_text(found.dump()));
    }
  }
  if (!config.contains("shapes") || !config.at("shapes").is_object()) {
    user_error("{}.shapes: expected an object with the length of every packed tensor", where);
  }
}

/// The names of linears that the config leaves in floating point; as module or as weight.
bool left_out(const json& config, const std::string& linear) {
  const json kept = config.value("modules_to_not_convert", json::array());
  return std::any_of(kept.begin(), kept.end(),
                     [&](const json& name) { return name == linear || name == linear + ".weight"; });
}

}  // namespace

SpqrReader::SpqrReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph)
    : checkpoint_(std::move(checkpoint)), float_dtype_(graph.config.dtype) {
  const json& config = checkpoint_->config().at("quantization_config");
  const std::string where = checkpoint_->quantization_place();
  check_config(config, where);
  for (const Block& block : graph.blocks) {
    for (const Linear& linear : block.linears) {
      const bool packed = checkpoint_->contains(linear.name + ".dense_weights");
      if (packed == left_out(config, linear.name)) {
        user_error("{}: '{}' is {}, but modules_to_not_convert says otherwise", where, linear.name,
                   packed ? "packed" : "not packed");
      }
      check_names(linear, packed);
      if (!packed) continue;
      check_packed(linear);
      schemes_[linear.name] = stored_scheme();
      linears_[linear.name] = linear;
    }
  }
}

/// The linear's tensors are those of its kind, and no others.
void SpqrReader::check_names(const Linear& linear, bool packed) const {
  std::vector<std::string> known = {"weight", "bias"};
  if (packed) known.assign(kParts.begin(), kParts.end());
  const std::string prefix = linear.name + ".";
  const auto& tensors = checkpoint_->tensors();
  for (auto it = tensors.lower_bound(prefix); it != tensors.end() && it->first.starts_with(prefix); ++it) {
    const std::string suffix = it->first.substr(prefix.size());
    if (std::ranges::find(known, suffix) != known.end()) continue;
    if (!packed && std::ranges::find(kParts, suffix) == kParts.end()) continue;  // the model's own
    user_error("{}: not expected beside a linear stored as {}", describe_tensor(*checkpoint_, it->first),
               packed ? "SpQR" : "floating point");
  }
}

void SpqrReader::check_packed(const Linear& linear) const {
  const PlannedLinear planned{linear.name,
                              linear.out,
                              linear.in,
                              stored_scheme(),
                              DType::F16,
                              linear.role,
                              linear.input.expert.has_value()};
  const Target target = spqr_target();
  if (const auto reason = target.refuses(planned)) {
    user_error("{}: {}: {}", checkpoint_->folder().string(), linear.name, *reason);
  }
  const json& shapes = checkpoint_->config().at("quantization_config").at("shapes");
  for (PlannedTensor tensor : target.layout(planned)) {
    const json length = shapes.value(tensor.name + ".shape", json());
    if (!length.is_number_integer()) {
      user_error("{}: quantization_config.shapes: no length of '{}'",
                 (checkpoint_->folder() / "config.json").string(), tensor.name);
    }
    if (tensor.open) tensor.info.shape[0] = length.get<int64_t>();
    check_tensor(tensor.name, tensor.info);
    if (length != tensor.info.shape[0]) {
      user_error("{}: quantization_config.shapes: '{}' has {} entries, not {}",
                 (checkpoint_->folder() / "config.json").string(), tensor.name, tensor.info.shape[0],
                 length.dump());
    }
  }
}

void SpqrReader::check_tensor(const std::string& name, const TensorInfo& expected) const {
  const auto it = checkpoint_->tensors().find(name);
  if (it == checkpoint_->tensors().end()) {
    user_error("{}: tensor '{}' is missing: expected {}", checkpoint_->folder().string(), name,
               expected.describe());
  }
  if (it->second == expected) return;
  user_error("{}: expected {}, found {}{}", describe_tensor(*checkpoint_, name), expected.describe(),
             it->second.describe(),
             name.ends_with(".row_offsets") ? " (only plain compressed rows are read, not ptcsr)" : "");
}

/// Long [in], the weight's column at each place.
at::Tensor SpqrReader::read_order(const std::string& name, int64_t in) const {
  const at::Tensor order =
      borrow(checkpoint_->view(name)).contiguous().view(at::kShort).to(at::kLong).bitwise_and_(0xffff);
  if (!std::get<0>(order.sort()).equal(at::arange(in, at::kLong))) {
    user_error("{}: expected each of the numbers 0 to {} once", describe_tensor(*checkpoint_, name), in - 1);
  }
  return order;
}

Outliers SpqrReader::read_outliers(const std::string& linear, const at::Tensor& order) const {
  const std::string offsets_name = linear + ".row_offsets", values_name = linear + ".col_vals";
  const at::Tensor offsets = borrow(checkpoint_->view(offsets_name)).clone();
  const at::Tensor fields = borrow(checkpoint_->view(values_name)).clone().view({-1, 1}).view(at::kShort);
  const int64_t count = fields.size(0), in = order.numel();
  const bool sound = offsets[0].item<int>() == 0 && offsets[-1].item<int>() == count &&
                     offsets.diff().ge(0).all().item<bool>();
  if (!sound) {
    user_error("{}: expected offsets that rise from 0 to {}", describe_tensor(*checkpoint_, offsets_name),
               count);
  }
  const at::Tensor places = fields.select(1, 0).to(at::kLong);
  const at::Tensor values = fields.select(1, 1).contiguous().view(at::kHalf).to(at::kFloat);
  if (!places.ge(0).logical_and(places < in).logical_and(at::isfinite(values)).all().item<bool>()) {
    user_error("{}: expected finite values in columns 0 to {}", describe_tensor(*checkpoint_, values_name),
               in - 1);
  }
  const at::Tensor row =
      at::arange(offsets.numel() - 1, at::kLong).repeat_interleave(offsets.diff().to(at::kLong));
  const at::Tensor place = row * in + order.index_select(0, places);
  const auto [sorted, source] = place.sort();
  if (sorted.diff().eq(0).any().item<bool>()) {
    user_error("{}: a weight has two outliers", describe_tensor(*checkpoint_, values_name));
  }
  return {offsets, sorted.remainder(in).to(at::kInt), values.index_select(0, source)};
}

QuantizedTensor SpqrReader::read(const std::string& linear) const {
  LATHE_ASSERT(schemes_.contains(linear), "'{}' is not a packed linear", linear);
  const Linear& shape = linears_.at(linear);
  const std::string words = linear + ".dense_weights";
  const SpqrTiles tiles = unpack_spqr_tiles(borrow(checkpoint_->view(words)).clone(), shape.out, shape.in);
  checkpoint_->release(words);
  if (!tiles.consistent.item<bool>()) {
    user_error("{}: the copies of a tile's second level differ, or spare bits are set",
               describe_tensor(*checkpoint_, words));
  }
  const SecondLevel& level = tiles.level;
  QuantizedTensor tensor{stored_scheme(), DType::F16, {}, {}, {}};
  tensor.scales = decode_second_level(level.scale_codes, level.scale_scales, level.scale_zeros);
  const at::Tensor zeros = decode_second_level(level.zero_codes, level.zero_scales, level.zero_zeros);
  if (!at::isfinite(tensor.scales).logical_and(at::isfinite(zeros)).all().item<bool>()) {
    user_error("{}: a tile's second level is not finite", describe_tensor(*checkpoint_, words));
  }
  tensor.zero_points = zeros + tensor.scheme.qmin();
  tensor.second_level = level;
  const at::Tensor order = read_order(linear + ".in_perm", shape.in);
  const at::Tensor codes = (tiles.codes.to(at::kShort) + tensor.scheme.qmin()).to(at::kChar);
  tensor.codes = at::empty_like(codes).index_copy_(1, order, codes);
  at::Tensor group = at::empty({shape.in}, at::kInt);
  group.index_copy_(0, order, at::arange(shape.in, at::kInt).div_(kSpqrTile, "floor"));
  if (!group.slice(0, 1).ge(group.slice(0, 0, shape.in - 1)).all().item<bool>()) tensor.group_index = group;
  tensor.outliers = read_outliers(linear, order);
  return tensor;
}

std::map<std::string, TensorInfo> SpqrReader::unpacked_tensors() const {
  std::map<std::string, TensorInfo> tensors = checkpoint_->tensors();
  for (const auto& [name, linear] : linears_) {
    for (const char* part : kParts) tensors.erase(name + "." + part);
    tensors[name + ".weight"] = {float_dtype_, {linear.out, linear.in}};
  }
  return tensors;
}

}  // namespace lathe
