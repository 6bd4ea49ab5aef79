#include "formats/targets/gguf_folder.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "formats/gguf/gguf_file.h"
#include "formats/gguf/gguf_split.h"
#include "formats/gguf/model_keys.h"
#include "formats/gguf/tensor_map.h"
#include "formats/safetensors/json_text.h"
#include "formats/targets/float_reader.h"
#include "formats/targets/gguf_reader.h"
#include "lib/base/error.h"
#include "lib/kernels/ggml_quant.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

/// A file with the map of its tensors.
struct MappedModel {
  GgufFile file;
  std::map<std::string, GgufTensorRule> rules;  // by Hugging Face's name

  const GgufTensor& tensor(const std::string& name) const {
    const auto rule = rules.find(name);
    if (rule == rules.end()) user_error("{}: has no tensor {}", file.path().string(), quote_text(name));
    return *file.tensor(rule->second.gguf);  // checked when it was opened
  }
};

/// The bytes of the rule's matrix, all of the file's tensor but where that is a stack.
std::span<const std::byte> bytes_of_rule(const GgufTensor& tensor, const GgufTensorRule& rule) {
  if (rule.experts == 0) return tensor.bytes;
  const auto row = static_cast<size_t>(row_bytes(tensor.type, tensor.columns()));
  return tensor.bytes.subspan(static_cast<size_t>(rule.first_row()) * row,
                              static_cast<size_t>(rule.shape[0]) * row);
}

/// As Byte [rows, row_bytes]; a vector is one row.
at::Tensor byte_rows(const GgufTensor& tensor, const GgufTensorRule& rule) {
  const auto bytes = bytes_of_rule(tensor, rule);
  const int64_t width = row_bytes(tensor.type, tensor.columns());
  void* data = const_cast<std::byte*>(bytes.data());
  return at::from_blob(data, {static_cast<int64_t>(bytes.size()) / width, width}, at::kByte);
}

void check_finite(const GgufFile& file, const GgufTensor& tensor, const at::Tensor& values) {
  const at::Tensor bad = at::isfinite(values).logical_not_();
  if (!bad.any().item<bool>()) return;
  user_error("{}: tensor '{}': the value at {} is not finite; the file is damaged: fetch or make it again",
             file.path().string(), tensor.name, first_index(bad));
}

class GgufSource : public WeightSource {
 public:
  explicit GgufSource(std::shared_ptr<const MappedModel> model) : model_(std::move(model)) {}

  bool contains(const std::string& name) const override { return model_->rules.contains(name); }

  at::Tensor load(const std::string& name) const override {
    const GgufTensor& tensor = model_->tensor(name);
    const GgufTensorRule& rule = model_->rules.at(name);
    at::Tensor values = kernels::dequantize_ggml(byte_rows(tensor, rule), tensor.type, tensor.columns());
    model_->file.release(tensor, bytes_of_rule(tensor, rule));
    apply_scale(rule, values);
    check_finite(model_->file, tensor, values);
    values = values.view(rule.shape);
    if (rule.heads > 0) values = values.index_select(0, halved_rows(values.size(0), rule.heads));
    if (rule.plus_one) values = values - 1;
    return values;
  }

  at::Tensor load_rows(const std::string& name, const at::Tensor& rows) const override {
    const GgufTensor& tensor = model_->tensor(name);
    const GgufTensorRule& rule = model_->rules.at(name);
    LATHE_ASSERT(rule.is_matrix(), "rows of '{}'", name);
    const at::Tensor places =
        rule.heads > 0 ? halved_rows(rule.shape[0], rule.heads).index_select(0, rows) : rows;
    const at::Tensor matrix = byte_rows(tensor, rule);
    const at::Tensor bytes = at::empty({places.size(0), matrix.size(1)}, at::kByte);
    copy_mapped_rows(matrix, places, bytes,
                     [&] { model_->file.release(tensor, bytes_of_rule(tensor, rule)); });
    at::Tensor values = kernels::dequantize_ggml(bytes, tensor.type, tensor.columns());
    apply_scale(rule, values);
    check_finite(model_->file, tensor, values);
    return values;
  }

  bool looks_rows_up(const std::string&) const override { return true; }

 private:
  void apply_scale(const GgufTensorRule& rule, at::Tensor& values) const {
    const float scale = gguf_tensor_scale(model_->file, rule);
    if (scale != 1) values.mul_(scale);
  }

  std::shared_ptr<const MappedModel> model_;
};

/// What a tensor is in the checkpoint that the file stands for: vectors FP32, matrices the config's type.
TensorInfo info_of_rule(const GgufTensorRule& rule, DType dtype) {
  return {rule.is_matrix() ? dtype : DType::F32, rule.shape};
}

/// Its bytes, made when they are asked for.
TensorView made_view(const GgufSource& source, const std::string& name, const TensorInfo& info,
                     const fs::path& file) {
  const at::Tensor values = source.load(name);
  const at::Tensor stored = values.to(to_scalar_type(info.dtype)).contiguous();
  if (!at::isfinite(stored).all().item<bool>())
    user_error("{}: '{}' has values that {} can't hold", file.string(), name, name_of(info.dtype));
  const auto owner = std::make_shared<const at::Tensor>(stored);
  return {info, bytes_of(*owner), owner};
}

void check_tensor(const GgufFile& file, const GgufTensorRule& rule) {
  const GgufTensor* tensor = file.tensor(rule.gguf);
  const std::vector<int64_t> shape = rule.file_shape();
  if (tensor == nullptr) {
    user_error("{}: tensor '{}' is missing: expected {}", file.path().string(), rule.gguf,
               describe_shape(shape));
  }
  if (tensor->shape == shape) return;
  user_error("{}: tensor '{}': its keys imply {}, found {}", file.path().string(), rule.gguf,
             describe_shape(shape), describe_shape(tensor->shape));
}

bool is_imatrix(const fs::path& file) {
  const GgufFile opened = GgufFile::open(file);
  const GgufValue* type = opened.find("general.type");
  const auto* text = type == nullptr ? nullptr : std::get_if<std::string>(type);
  return text != nullptr && *text == "imatrix";
}

}  // namespace

std::string with_file_name(std::string how_to_load, const fs::path& folder) {
  constexpr std::string_view kPlace = "MODEL.gguf";
  if (how_to_load.find(kPlace) == std::string::npos) return how_to_load;
  const auto file = find_gguf_model(folder);
  if (!file) return how_to_load;
  const std::string name = file->filename().string();
  for (size_t at = 0; (at = how_to_load.find(kPlace, at)) != std::string::npos; at += name.size())
    how_to_load.replace(at, kPlace.size(), name);
  return how_to_load;
}

std::optional<fs::path> find_gguf_model(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_regular_file(path, ignored)) {
    return is_gguf(path) || path.extension() == ".gguf" ? std::optional(path) : std::nullopt;
  }
  if (!fs::is_directory(path, ignored) || fs::exists(path / "config.json", ignored)) return std::nullopt;
  std::vector<fs::path> found, later;
  for (const auto& entry : fs::directory_iterator(path, ignored)) {
    const fs::path& file = entry.path();
    if (file.extension() != ".gguf") continue;
    if (is_later_part(file)) {
      later.push_back(file);
    } else if (!is_imatrix(file)) {
      found.push_back(file);
    }
  }
  std::ranges::sort(found);
  if (found.empty() && !later.empty())
    found = {*std::ranges::min_element(later)};  // whose error says what is missing
  if (found.size() > 1) {
    user_error("{}: holds several GGUF files ({} and {}): name one of them", path.string(),
               found[0].filename().string(), found[1].filename().string());
  }
  if (found.empty()) return std::nullopt;
  return found.front();
}

ModelFolder open_gguf_model(const fs::path& path) {
  auto mapped = std::make_shared<MappedModel>(MappedModel{GgufFile::open(path), {}});
  const GgufFile& file = mapped->file;
  ModelFolder model;
  const nlohmann::json config = config_of_gguf(file);
  model.graph = build_graph(parse_model_config(config, path.string()));
  std::map<std::string, TensorInfo> tensors;
  for (GgufTensorRule& rule : gguf_tensors(model.graph)) {
    if (rule.hf.empty()) continue;
    check_tensor(file, rule);
    tensors[rule.hf] = info_of_rule(rule, model.graph.config.dtype);
    const std::string name = rule.hf;
    mapped->rules.emplace(name, std::move(rule));
  }
  const auto source = std::make_shared<const GgufSource>(mapped);
  model.checkpoint = std::make_shared<const Checkpoint>(
      Checkpoint::made(path, config, tensors, [source, tensors, path](const std::string& name) {
        return made_view(*source, name, tensors.at(name), path);
      }));
  check_tensors(model.graph, tensors, path.string());
  model.weights = std::make_unique<GgufSource>(mapped);
  model.gguf = std::shared_ptr<const GgufFile>(mapped, &mapped->file);
  model.packed = std::make_shared<const GgufReader>(model.gguf, model.graph, tensors);
  model.schemes = model.packed->schemes();
  return model;
}

}  // namespace lathe
