#include "formats/verify/artefact.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>

#include "formats/targets/float_reader.h"
#include "formats/targets/layout_reader.h"
#include "formats/targets/packed_reader.h"
#include "formats/verify/fold_match.h"
#include "formats/verify/numbers.h"
#include "formats/verify/plain_unpack.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/model/forward.h"
#include "lib/numeric/hadamard.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

constexpr size_t kPieceBytes = size_t{4} << 20;
/// Rows that tell one original from another.
constexpr int64_t kTellingRows = 64;
/// Findings whose linear is looked for among the others' originals: there are as many as linears, at the
/// most.
constexpr size_t kSoughtOriginals = 16;

bool is_float(DType dtype) {
  return dtype == DType::F16 || dtype == DType::BF16 || dtype == DType::F32 || dtype == DType::F64;
}

/// Calls use(piece of a, piece of b) until it says no.
template <class Use>
bool in_pieces(const Checkpoint& a, const Checkpoint& b, const std::string& name, Use&& use) {
  const TensorView left = a.view(name), right = b.view(name);
  for (size_t at = 0; at < left.bytes.size(); at += kPieceBytes) {
    throw_if_cancelled();
    const size_t count = std::min(kPieceBytes, left.bytes.size() - at);
    const bool go_on = use(left.bytes.subspan(at, count), right.bytes.subspan(at, count));
    a.release(name, left.bytes.subspan(at, count));
    b.release(name, right.bytes.subspan(at, count));
    if (!go_on) return false;
  }
  return true;
}

class ArtefactCheck {
 public:
  ArtefactCheck(const ModelFolder& artefact, const VerifyAgainst& against)
      : artefact_(artefact), against_(against), unpacked_(artefact.packed->unpacked_tensors()) {}

  Verified run() {
    account();
    find_changed();
    std::vector<Linear> linears = artefact_.graph.linears();
    for (const Linear& linear : linears) {
      throw_if_cancelled();
      if (artefact_.schemes.contains(linear.name)) check_linear(linear);
    }
    check_kept();
    check_kv_cache();
    check_folds();
    name_originals(linears);
    return std::move(result_);
  }

 private:
  void add(const char* check, std::string place, std::string expected, std::string found) {
    result_.findings.push_back({check, std::move(place), std::move(expected), std::move(found)});
  }

  const std::map<std::string, TensorInfo>& reference_tensors() const {
    return against_.reference->checkpoint->tensors();
  }

  void account() {
    if (against_.reference == nullptr) return;
    for (const auto& [name, info] : reference_tensors()) {
      const auto found = unpacked_.find(name);
      if (found == unpacked_.end()) {
        add(check::accounted, name, "the model's tensor, quantised or as it is", "none of that name");
      } else if (found->second.shape != info.shape) {
        add(check::accounted, name, info.describe(), found->second.describe());
      } else if (artefact_.checkpoint->contains(name) && !is_packed(name) &&
                 found->second.dtype != info.dtype) {
        add(check::accounted, name, info.describe(), found->second.describe());
      } else {
        common_.insert(name);
      }
    }
    for (const auto& [name, info] : unpacked_) {
      if (!reference_tensors().contains(name))
        add(check::accounted, name, "nothing that the model doesn't have", info.describe());
    }
  }

  bool is_packed(const std::string& tensor) const {
    constexpr std::string_view kWeight = ".weight";
    return tensor.ends_with(kWeight) &&
           artefact_.schemes.contains(tensor.substr(0, tensor.size() - kWeight.size()));
  }

  /// Kept tensors whose bytes are not the model's, and linears whose columns a changed norm says were folded.
  void find_changed() {
    if (against_.reference == nullptr) return;
    for (const std::string& name : common_) {
      if (is_packed(name)) continue;
      const bool same =
          in_pieces(*artefact_.checkpoint, *against_.reference->checkpoint, name,
                    [](auto a, auto b) { return std::memcmp(a.data(), b.data(), a.size()) == 0; });
      if (!same) changed_.insert(name);
    }
    for (const Block& block : artefact_.graph.blocks) {
      for (const ScaleEdge& edge : block.edges) {
        if (!changed_.contains(edge.producer + ".weight")) continue;
        for (const Linear* linear : block.consumers(edge)) folded_.insert(linear->name);
      }
    }
    if (!against_.folds) return;  // else each is fitted, for its producers and consumers
    for (const std::string& name : linears_on_edges(artefact_.graph)) folded_.insert(name);
  }

  void check_linear(const Linear& linear) {
    result_.linears += 1;
    std::optional<QuantizedTensor> tensor = read(linear);
    if (!tensor) return;
    if (against_.meant && !against_.meant(linear.name, *tensor))
      add(check::meant, linear.name, "the codes, scales and zero points that its solver meant", "others");
    if (tensor->scheme.has_values()) {
      if (!all_finite(tensor->values)) add(check::numbers, linear.name, "finite values", "others");
      return;
    }
    check_duplicate(linear, *tensor);
    if (against_.reference == nullptr || !common_.contains(linear.name + ".weight")) return;
    const bool folds = against_.folds, folded = folds && folded_.contains(linear.name);
    WeightCheck found = check_weight(stored_weight(linear.name, *tensor), original_of(linear.name),
                                     folded  ? Folds::certain
                                     : folds ? Folds::possible
                                             : Folds::none);
    for (Finding& finding : found.findings) result_.findings.push_back(std::move(finding));
    result_.distances[linear.name] = std::move(found.distance);
  }

  /// As the linear's codes stand for it: with its columns rotated, where they are of a rotated weight.
  MatrixRows original_of(const std::string& linear, const std::string& of) const {
    const auto scheme = artefact_.schemes.find(linear);
    const int64_t rotation = scheme == artefact_.schemes.end() ? 0 : scheme->second.hadamard;
    return [this, of, rotation](int64_t begin, int64_t end) {
      at::Tensor rows = against_.reference->weights->load_rows(of + ".weight", at::arange(begin, end));
      return rotation > 0 ? hadamard_blocks(rows, rotation) : rows;
    };
  }
  MatrixRows original_of(const std::string& linear) const { return original_of(linear, linear); }

  /// By both ways; nothing where one of them found it broken.
  std::optional<QuantizedTensor> read(const Linear& linear) {
    try {
      const auto plain = unpack_plainly(*artefact_.checkpoint, linear, artefact_.schemes.at(linear.name));
      if (plain) {
        Findings wrong = check_numbers(linear.name, *plain);
        for (Finding& finding : wrong) result_.findings.push_back(std::move(finding));
        if (!wrong.empty()) return std::nullopt;
      }
      QuantizedTensor tensor = artefact_.read_quantized(linear.name);
      if (plain) {
        if (const auto where = difference(tensor, *plain))
          add(check::unpacked, linear.name, "the same by the reader and by plain unpacking", *where);
      }
      return tensor;
    } catch (const UserError& error) {
      add(check::unpacked, linear.name, "a linear that can be read", error.what());
      return std::nullopt;
    }
  }

  void check_duplicate(const Linear& linear, const QuantizedTensor& tensor) {
    const at::Tensor codes = tensor.codes.contiguous();
    if (codes.eq(codes.flatten()[0]).all().item<bool>()) return;
    const std::string key = describe_shape({linear.out, linear.in}) + content_hash(bytes_of(codes)) +
                            content_hash(bytes_of(tensor.scales.contiguous()));
    const auto [first, is_first] = codes_.emplace(key, linear.name);
    if (is_first) return;
    if (against_.reference != nullptr ? same_original(first->second, linear.name) : against_.bytes_known)
      return;
    add(check::duplicates, linear.name,
        against_.reference != nullptr
            ? "codes of its own, for its weights are no other linear's"
            : "codes of its own (unless the model repeats layers: give the reference)",
        "those of " + first->second);
  }

  bool same_original(const std::string& a, const std::string& b) const {
    const Checkpoint& model = *against_.reference->checkpoint;
    return std::ranges::equal(model.view(a + ".weight").bytes, model.view(b + ".weight").bytes);
  }

  void check_kept() {
    for (const auto& [name, info] : artefact_.checkpoint->tensors()) {
      if (!unpacked_.contains(name) || is_packed(name)) continue;
      result_.kept += 1;
      if (const auto meant = meant_by_fold(name)) {
        if (!*meant) {
          add(check::kept, name, "what a fold made of the model's values", "others");
        } else if (against_.reference != nullptr && info.shape.size() == 2) {
          check_folded_matrix(name);
        }
      } else if (changed_.contains(name)) {
        check_changed(name);
      } else if (against_.reference == nullptr && is_float(info.dtype) && !finite(name, info)) {
        add(check::numbers, name, "finite values", "a NaN or an infinity");
      }
    }
  }

  void check_kv_cache() {
    for (const Block& block : artefact_.graph.blocks) {
      const std::string attention = attention_module(block);
      try {
        artefact_.packed->kv_cache(attention);
      } catch (const UserError& error) {
        add(check::numbers, attention, "scales of its KV cache that are finite and positive", error.what());
      }
    }
  }

  bool finite(const std::string& name, const TensorInfo& info) const {
    const Checkpoint& checkpoint = *artefact_.checkpoint;
    return in_pieces(checkpoint, checkpoint, name, [&](std::span<const std::byte> piece, auto) {
      const auto count = static_cast<int64_t>(piece.size() / traits(info.dtype).bytes);
      return all_finite(borrow({{info.dtype, {count}}, piece}));
    });
  }

  /// Nothing but a fold may have changed a tensor that is kept; which it may have is known.
  void check_changed(const std::string& name) {
    if (against_.meant_fold || !against_.folds || !may_be_folded(artefact_.graph, name)) {
      add(check::kept, name, "the model's bytes", "others");
      return;
    }
    const TensorInfo& info = artefact_.checkpoint->tensors().at(name);
    if (is_float(info.dtype) && !finite(name, info)) {
      add(check::numbers, name, "finite values", "a NaN or an infinity");
    } else if (info.shape.size() == 2) {
      check_folded_matrix(name);
    }
  }

  std::optional<bool> meant_by_fold(const std::string& name) const {
    if (!against_.meant_fold) return std::nullopt;
    return against_.meant_fold(name, [&] { return read_float_tensor_or_none(name); });
  }

  /// Undefined where it can't be read: then it is what nobody meant.
  at::Tensor read_float_tensor_or_none(const std::string& name) const {
    try {
      return read_float_tensor(*artefact_.checkpoint, name);
    } catch (const UserError&) {
      return {};
    }
  }

  void check_folded_matrix(const std::string& name) {
    QuantizedTensor values{Scheme::as_they_are(), DType::F32, {}, {}, {}};
    values.values = read_float_tensor(*artefact_.checkpoint, name);
    const std::string linear = name.substr(0, name.rfind('.'));
    WeightCheck found = check_weight(stored_weight(linear, values), original_of(linear), Folds::certain);
    for (Finding& finding : found.findings) result_.findings.push_back(std::move(finding));
    result_.distances[linear] = std::move(found.distance);
  }

  void check_folds() {
    if (against_.reference == nullptr || !against_.folds) return;
    const FoldedModel model{
        .graph = artefact_.graph,
        .before = [this](const std::string& tensor) { return against_.reference->weights->load(tensor); },
        .after = [this](const std::string& tensor) { return read_float_tensor_or_none(tensor); },
        .untouched = [this](const std::string& linear) { return !artefact_.schemes.contains(linear); },
        .by_channel = against_.fold_channels};
    for (Finding& finding : check_fold_match(model, result_.distances))
      result_.findings.push_back(std::move(finding));
  }

  /// Whose weights a linear holds that is none of its own.
  void name_originals(const std::vector<Linear>& linears) {
    size_t sought = 0;
    for (Finding& finding : result_.findings) {
      if (finding.check != check::distance || against_.reference == nullptr || ++sought > kSoughtOriginals)
        continue;
      const auto linear = std::ranges::find_if(linears, [&](const Linear& one) {
        return finding.place == one.name || finding.place.starts_with(one.name + ":");
      });
      if (linear == linears.end() || !artefact_.schemes.contains(linear->name)) continue;
      const std::string nearest = nearest_original(*linear, linears);
      if (nearest != linear->name) finding.found += fmt::format("; nearest to the weights of {}", nearest);
    }
  }

  std::string nearest_original(const Linear& linear, const std::vector<Linear>& linears) const {
    const int64_t rows = std::min(linear.out, kTellingRows);
    const at::Tensor values = artefact_.read_quantized(linear.name).dequantize_rows(0, rows).flatten();
    const auto likeness = [&](const std::string& name) {
      const at::Tensor original = original_of(linear.name, name)(0, rows).flatten();
      const double length = values.norm().item<double>() * original.norm().item<double>();
      return length == 0 ? 0 : values.dot(original).item<double>() / length;
    };
    std::string nearest = linear.name;
    double best = std::max(likeness(linear.name), 0.5);  // below that it is nobody's
    for (const Linear& other : linears) {
      if (other.out != linear.out || other.in != linear.in || !common_.contains(other.name + ".weight"))
        continue;
      const double like = likeness(other.name);
      if (like <= best) continue;
      best = like;
      nearest = other.name;
    }
    return nearest;
  }

  const ModelFolder& artefact_;
  const VerifyAgainst& against_;
  std::map<std::string, TensorInfo> unpacked_;
  std::set<std::string> common_;              // tensors of model and artefact
  std::set<std::string> changed_;             // kept ones with other bytes
  std::set<std::string> folded_;              // linears whose columns or rows are fitted
  std::map<std::string, std::string> codes_;  // who had them first
  Verified result_;
};

}  // namespace

Verified verify_artefact(const ModelFolder& artefact, const VerifyAgainst& against) {
  return ArtefactCheck(artefact, against).run();
}

}  // namespace lathe
