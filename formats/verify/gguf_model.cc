#include "formats/verify/gguf_model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "formats/gguf/gguf_file.h"
#include "formats/gguf/tensor_map.h"
#include "formats/targets/float_reader.h"
#include "formats/verify/fold_match.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/kernels/ggml_quant.h"
#include "lib/numeric/ggml_block.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

constexpr int64_t kPieceValues = int64_t{1} << 20;

/// A tensor of the file, and which expert's part of it.
using Place = std::pair<std::string, int64_t>;

class GgufCheck {
 public:
  GgufCheck(const ModelFolder& artefact, const VerifyAgainst& against)
      : artefact_(artefact), against_(against), file_(*artefact.gguf) {
    if (!against.folds) return;
    for (const std::string& linear : linears_on_edges(artefact.graph)) on_edges_.insert(linear);
  }

  Verified run() {
    std::set<std::string> known;
    for (const GgufTensorRule& rule : gguf_tensors(artefact_.graph)) known.insert(rule.gguf);
    for (const GgufTensor& tensor : file_.tensors()) {
      throw_if_cancelled();
      const bool scale = tensor.name.ends_with(".scale");  // of a tensor that is known
      if (!known.contains(tensor.name) && !scale)
        add(check::accounted, tensor.name, "no tensor that the model doesn't have", "one");
      if (!check_blocks(tensor)) broken_.insert(tensor.name);
    }
    if (against_.reference != nullptr) compare();
    return std::move(result_);
  }

 private:
  void add(const char* check, std::string place, std::string expected, std::string found) {
    result_.findings.push_back({check, std::move(place), std::move(expected), std::move(found)});
  }

  /// Both decoders, over pieces of rows. False where the values are no weights.
  bool check_blocks(const GgufTensor& tensor) {
    const int64_t columns = tensor.columns(), width = row_bytes(tensor.type, columns);
    const int64_t rows = static_cast<int64_t>(tensor.bytes.size()) / width;
    const int64_t step = std::max<int64_t>(1, kPieceValues / columns);
    std::vector<float> plain;
    bool good = true;
    for (int64_t begin = 0; good && begin < rows; begin += step) {
      throw_if_cancelled();
      const int64_t count = std::min(step, rows - begin);
      const auto bytes =
          tensor.bytes.subspan(static_cast<size_t>(begin * width), static_cast<size_t>(count * width));
      plain.resize(static_cast<size_t>(count * columns));
      decode_ggml(tensor.type, bytes.data(), count * columns, plain.data());
      const at::Tensor slow = at::from_blob(plain.data(), {count, columns}, at::kFloat);
      const at::Tensor blocks =
          at::from_blob(const_cast<std::byte*>(bytes.data()), {count, width}, at::kByte);
      const at::Tensor bad = at::isfinite(slow).logical_not();
      if (bad.any().item<bool>()) {
        add(check::numbers, tensor.name, "finite values",
            fmt::format("{:g} near row {}", slow.masked_select(bad)[0].item<double>(),
                        begin + bad.any(1).to(at::kByte).argmax().item<int64_t>()));
        good = false;
      } else if (!slow.equal(kernels::dequantize_ggml(blocks, tensor.type, columns))) {
        add(check::unpacked, tensor.name, "the same by both decoders", "other values");
        good = false;
      }
      file_.release(tensor, bytes);
    }
    if (tensor.shape.size() >= 2 && good) check_duplicate(tensor);
    return good;
  }

  void check_duplicate(const GgufTensor& tensor) {
    const std::string key =
        describe_shape(tensor.shape) +
        content_hash_in_pieces(tensor.bytes, [&](auto piece) { file_.release(tensor, piece); });
    const auto [first, is_first] = seen_.emplace(key, tensor.name);
    if (is_first || against_.reference != nullptr || against_.bytes_known) return;  // else compare() sees it
    add(check::duplicates, tensor.name,
        "blocks of its own (unless the model repeats layers: give the reference)",
        "those of " + first->second);
  }

  void compare() {
    compare_config(against_.reference->graph.config, artefact_.graph.config);
    std::map<Place, std::string> names;  // of the reference: its family may spell tensors otherwise
    std::set<std::string> placed;
    for (const GgufTensorRule& rule : gguf_tensors(against_.reference->graph)) {
      names[{rule.gguf, rule.expert}] = rule.hf;
      placed.insert(rule.hf);
    }
    for (const GgufTensorRule& rule : gguf_tensors(artefact_.graph)) {
      if (rule.hf.empty() || broken_.contains(rule.gguf)) continue;
      const auto name = names.find({rule.gguf, rule.expert});
      if (name == names.end() || !against_.reference->weights->contains(name->second)) {
        add(check::accounted, rule.gguf, "no tensor that the model doesn't have", "one");
        continue;
      }
      originals_[rule.hf] = name->second;
      check_values(rule, name->second);
    }
    check_placed(placed);
    if (against_.folds) check_folds();
  }

  /// A tensor that is broken has been named: nothing is made of it here.
  void check_folds() {
    const FoldedModel model{.graph = artefact_.graph,
                            .before =
                                [this](const std::string& tensor) {
                                  return against_.reference->weights->load(originals_.at(tensor));
                                },
                            .after =
                                [this](const std::string& tensor) {
                                  return originals_.contains(tensor) ? artefact_.weights->load(tensor)
                                                                     : at::Tensor();
                                },
                            .untouched = [](const std::string&) { return false; },
                            .by_channel = against_.fold_channels};
    for (Finding& finding : check_fold_match(model, result_.distances))
      result_.findings.push_back(std::move(finding));
  }

  /// What the graph reads is in the file: a tied head is the embeddings.
  void check_placed(const std::set<std::string>& placed) {
    for (const auto& [name, shape] : against_.reference->graph.expected_tensors()) {
      if (!placed.contains(name) && against_.reference->weights->contains(name))
        add(check::accounted, name, "a tensor of the file that holds it", "none");
    }
  }

  void check_values(const GgufTensorRule& rule, const std::string& original) {
    if (!rule.is_matrix()) {
      result_.kept += 1;
      const at::Tensor values = artefact_.weights->load(rule.hf),
                       meant = against_.reference->weights->load(original);
      // 1 + w is rounded once on the way there.
      const bool same = rule.plus_one ? values.allclose(meant, 1e-5, 1e-6) : values.equal(meant);
      const bool folded = against_.folds && may_be_folded(artefact_.graph, rule.hf);
      if (!same && !folded) add(check::kept, rule.gguf, "the model's values", "others");
      return;
    }
    result_.linears += 1;
    const std::string linear = rule.hf.substr(0, rule.hf.rfind('.'));
    const auto rows_of = [](const WeightSource& source, const std::string& name) -> MatrixRows {
      return [&source, name](int64_t begin, int64_t end) {
        return source.load_rows(name, at::arange(begin, end));
      };
    };
    const GgufTensor& tensor = *file_.tensor(rule.gguf);
    StoredWeight stored =
        stored_blocks(rule.experts > 0 ? fmt::format("{} (expert {})", rule.gguf, rule.expert) : rule.gguf,
                      tensor.type, rule.shape[0], rule.shape[1], rows_of(*artefact_.weights, rule.hf));
    const auto codes = against_.codes_in_blocks.find(linear);
    if (codes != against_.codes_in_blocks.end()) hold_codes(stored, codes->second);
    WeightCheck found = check_weight(stored, rows_of(*against_.reference->weights, original),
                                     !against_.folds              ? Folds::none
                                     : on_edges_.contains(linear) ? Folds::certain
                                                                  : Folds::possible);
    for (Finding& finding : found.findings) result_.findings.push_back(std::move(finding));
    result_.distances[linear] = std::move(found.distance);
  }

  /// What is lost is what the solver's grid loses, not the blocks'.
  static void hold_codes(StoredWeight& stored, const Scheme& scheme) {
    stored.scheme = fmt::format("{} in {}", scheme.describe(), stored.scheme);
    stored.steps = scheme.qmax() - scheme.qmin();
    stored.symmetric = scheme.symmetric;
    stored.grouping.length = scheme.group_size > 0 ? scheme.group_size : stored.columns;
  }

  void compare_config(const ModelConfig& model, const ModelConfig& file) {
    const auto same = [&](const char* key, auto expected, auto found) {
      if (expected == found) return;
      add(check::config, fmt::format("{}: {}", file_.path().filename().string(), key),
          fmt::format("{}", expected), fmt::format("{}", found));
    };
    same("block_count", model.num_layers, file.num_layers);
    same("embedding_length", model.hidden_size, file.hidden_size);
    same("feed_forward_length", model.intermediate_size, file.intermediate_size);
    same("attention.head_count", model.num_heads, file.num_heads);
    same("attention.head_count_kv", model.num_kv_heads, file.num_kv_heads);
    same("attention.key_length", model.head_dim, file.head_dim);
    same("vocab_size", model.vocab_size, file.vocab_size);
    same("context_length", model.max_position, file.max_position);
    same("attention.layer_norm_rms_epsilon", static_cast<float>(model.rms_norm_eps),
         static_cast<float>(file.rms_norm_eps));
    same("rope.freq_base", static_cast<float>(model.rope.theta), static_cast<float>(file.rope.theta));
    same("expert_count", model.experts ? model.experts->count : 0, file.experts ? file.experts->count : 0);
    same("expert_used_count", model.experts ? model.experts->per_token : 0,
         file.experts ? file.experts->per_token : 0);
  }

  const ModelFolder& artefact_;
  const VerifyAgainst& against_;
  const GgufFile& file_;
  std::map<std::string, std::string> seen_;  // by shape and hash: the first tensor
  std::set<std::string> broken_;
  std::set<std::string> on_edges_;                // linears that have to be fitted
  std::map<std::string, std::string> originals_;  // by the artefact's tensor that isn't broken: the model's
  Verified result_;
};

}  // namespace

Verified verify_gguf(const ModelFolder& artefact, const VerifyAgainst& against) {
  return GgufCheck(artefact, against).run();
}

StoredWeight stored_blocks(const std::string& name, GgmlType type, int64_t rows, int64_t columns,
                           MatrixRows values) {
  const GgmlTraits& row = traits(type);
  StoredWeight weight{.name = name,
                      .scheme = std::string(row.name),
                      .rows = rows,
                      .columns = columns,
                      .grouping = {columns, {}},
                      .values = std::move(values),
                      .limits = {}};
  if (row.levels == 0) {  // plain numbers
    weight.limits.relative = 1e-4;
    return weight;
  }
  weight.grouping.length = row.group > 0 ? row.group : row.length;
  weight.steps = row.levels - 1;
  weight.symmetric = !row.has_min;
  weight.limits = limits_of_codes();
  return weight;
}

}  // namespace lathe
