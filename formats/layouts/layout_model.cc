#include "formats/layouts/layout_model.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "formats/layouts/layout_folder.h"
#include "formats/targets/float_reader.h"
#include "formats/targets/packed_reader.h"
#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

/// Linears out of the layout, the rest as the artefact has it.
class KernelLayoutReader : public PackedReader {
 public:
  KernelLayoutReader(LayoutFolder layout, std::shared_ptr<const PackedReader> beside, const ModelGraph& graph)
      : layout_(std::move(layout)), beside_(std::move(beside)), activations_(beside_->activations()) {
    for (const Linear& linear : graph.linears()) {
      const auto scheme = beside_->schemes().find(linear.name);
      if (scheme != beside_->schemes().end()) add(linear, scheme->second);
    }
    if (planned_.size() == layout_.linears().size()) return;
    const auto strange = std::ranges::find_if(
        layout_.linears(), [&](const auto& stored) { return !planned_.contains(stored.first); });
    user_error("{}: holds '{}', which is no quantised linear of the artefact beside it",
               layout_.folder().string(), strange->first);
  }

  std::map<std::string, ActivationScheme> activations() const override { return activations_; }
  std::optional<InputQuantizer> input_quantizer(const std::string& linear) const override {
    return beside_->input_quantizer(linear);
  }
  std::optional<KvCacheScheme> kv_cache_scheme() const override { return beside_->kv_cache_scheme(); }
  std::optional<KvCacheQuantizer> kv_cache(const std::string& attention) const override {
    return beside_->kv_cache(attention);
  }
  std::map<std::string, TensorInfo> unpacked_tensors() const override { return beside_->unpacked_tensors(); }

  QuantizedTensor read(const std::string& name) const override {
    const auto planned = planned_.find(name);
    LATHE_ASSERT(planned != planned_.end(), "'{}' is not a packed linear", name);
    const std::vector<at::Tensor> contents = layout_.read(planned->second);
    QuantizedTensor tensor;
    try {
      tensor = layout_.layout().unpack(planned->second, contents);
    } catch (const UserError& error) {
      user_error("{}: {}", layout_.folder().string(), error.what());
    } catch (const InternalError&) {  // a permutation that is none, a code that is no number
      refuse_damaged(name);
    }
    check_positive(name, "scale", tensor.scales);
    if (tensor.global_scale.defined()) check_positive(name, "global scale", tensor.global_scale);
    if (tensor.input && tensor.input->scheme.calibrated())
      check_positive(name, "scale of its input", at::scalar_tensor(tensor.input->scale));
    check_packed(planned->second, tensor, contents);
    return tensor;
  }

 private:
  void check_positive(const std::string& name, const char* what, const at::Tensor& scales) const {
    const at::Tensor wrong = at::isfinite(scales).logical_not().logical_or(scales <= 0);
    if (!wrong.any().item<bool>()) return;
    user_error("{}: '{}': the {} at {} is {:g}: expected a positive number", layout_.folder().string(), name,
               what, first_index(wrong), scales.masked_select(wrong)[0].item<float>());
  }

  void add(const Linear& linear, const Scheme& scheme) {
    const auto found = layout_.linears().find(linear.name);
    if (found == layout_.linears().end()) {
      user_error("{}: '{}' is missing, which the artefact beside it quantises", layout_.folder().string(),
                 linear.name);
    }
    const LayoutFolder::StoredLinear& stored = found->second;
    if (stored.scheme != scheme.describe() || stored.out != linear.out || stored.in != linear.in) {
      user_error("{}: '{}' is {} [{}, {}], but {} [{}, {}] in the artefact beside it",
                 layout_.folder().string(), linear.name, stored.scheme, stored.out, stored.in,
                 scheme.describe(), linear.out, linear.in);
    }
    PlannedLinear planned{.name = linear.name,
                          .out = linear.out,
                          .in = linear.in,
                          .scheme = scheme,
                          .scale_dtype = scheme.scale_type(DType::F16),
                          .role = linear.role,
                          .expert = linear.input.expert.has_value(),
                          .group_index = stored.act_order,
                          .bias = linear.bias};
    if (const auto input = activations_.find(linear.name); input != activations_.end())
      planned.activations = input->second;
    if (const auto reason = layout_.layout().refuses(planned)) {
      user_error("{}: '{}': layout {}: {}", layout_.folder().string(), linear.name, layout_.layout().name,
                 *reason);
    }
    if (planned.scale_dtype == DType::F16) planned.scale_dtype = stored_scale_type(planned);
    planned_.emplace(linear.name, planned);
    schemes_.emplace(linear.name, scheme);
  }

  /// BF16 where the tensors are those of BF16 scales.
  DType stored_scale_type(PlannedLinear linear) const {
    linear.scale_dtype = DType::BF16;
    const auto stands = [&](const PlannedTensor& tensor) {
      const auto found = layout_.tensors().find(tensor.name);
      return found != layout_.tensors().end() && found->second == tensor.info;
    };
    if (layout_.layout().refuses(linear)) return DType::F16;
    return std::ranges::all_of(layout_.layout().tensors(linear), stands) ? DType::BF16 : DType::F16;
  }

  /// Padding, and parameters that hold more than they need to, leave room for bytes that mean nothing.
  void check_packed(const PlannedLinear& linear, const QuantizedTensor& tensor,
                    const std::vector<at::Tensor>& contents) const {
    const std::vector<at::Tensor> again = layout_.layout().pack(linear, tensor);
    for (size_t i = 0; i < contents.size(); ++i) {
      if (!std::ranges::equal(bytes_of(again[i]), bytes_of(contents[i]))) refuse_damaged(linear.name);
    }
  }

  [[noreturn]] void refuse_damaged(const std::string& name) const {
    user_error("{}: '{}': its bytes are not what the packer of layout {} makes; write the layout again",
               layout_.folder().string(), name, layout_.layout().name);
  }

  LayoutFolder layout_;
  std::shared_ptr<const PackedReader> beside_;
  std::map<std::string, ActivationScheme> activations_;
  std::map<std::string, PlannedLinear> planned_;  // by name
};

/// The folders in which the artefact may stand, in this order: a run in one format has it beside `layouts`,
/// one in several in folders of their own there.
std::vector<fs::path> places_beside(const fs::path& layout) {
  const fs::path root = fs::weakly_canonical(layout).parent_path().parent_path();
  std::vector<fs::path> below;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(root, ignored)) below.push_back(entry.path());
  std::ranges::sort(below);
  std::vector<fs::path> places = {root};
  places.insert(places.end(), below.begin(), below.end());
  std::erase_if(places, [&](const fs::path& place) { return !fs::exists(place / "config.json", ignored); });
  return places;
}

}  // namespace

ModelFolder open_layout_model(const fs::path& folder) {
  LayoutFolder layout = LayoutFolder::open(folder);
  for (const fs::path& place : places_beside(folder)) {
    ModelFolder model = open_model_folder(place);
    if (model.packed == nullptr) continue;
    model.packed = std::make_shared<const KernelLayoutReader>(std::move(layout), model.packed, model.graph);
    model.schemes = model.packed->schemes();
    model.activations = model.packed->activations();
    return model;
  }
  user_error(
      "{}: a kernel layout holds quantised linears alone; expected the artefact that it was written beside, "
      "in {} or in a folder there, for the rest of the model",
      folder.string(), fs::weakly_canonical(folder).parent_path().parent_path().string());
}

}  // namespace lathe
