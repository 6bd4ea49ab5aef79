#include "formats/verify/gguf_model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <vector>

#include "formats/gguf/gguf_file.h"
#include "formats/gguf/tensor_map.h"
#include "formats/targets/float_reader.h"
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
      : artefact_(artefact), against_(against), file_(*artefact.gguf) {}

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
      check_values(rule, name->second);
    }
    check_placed(placed);
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
      if (!same && !against_.folds) add(check::kept, rule.gguf, "the model's values", "others");
      return;
    }
    result_.linears += 1;
    const auto rows_of = [](const WeightSource& source, const std::string& name) -> MatrixRows {
      return [&source, name](int64_t begin, int64_t end) {
        return source.load_rows(name, at::arange(begin, end));
      };
    };
    const GgufTensor& tensor = *file_.tensor(rule.gguf);
    WeightCheck found = check_weight(
        stored_blocks(rule.experts > 0 ? fmt::format("{} (expert {})", rule.gguf, rule.expert) : rule.gguf,
                      tensor.type, rule.shape[0], rule.shape[1], rows_of(*artefact_.weights, rule.hf)),
        rows_of(*against_.reference->weights, original), against_.folds ? Folds::possible : Folds::none);
    for (Finding& finding : found.findings) result_.findings.push_back(std::move(finding));
    result_.distances[rule.hf] = std::move(found.distance);
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
