#include "formats/gguf/imatrix.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "formats/gguf/gguf_file.h"
#include "formats/gguf/gguf_writer.h"
#include "formats/safetensors/json_text.h"
#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";

[[noreturn]] void refuse(const GgufFile& file, const std::string& what) {
  user_error("{}: {}", file.path().string(), what);
}

/// Null where the key is missing or of another type.
template <class T>
const T* value_of(const GgufFile& file, const char* key) {
  const GgufValue* value = file.find(key);
  return value == nullptr ? nullptr : std::get_if<T>(value);
}

at::Tensor sums_of(const at::Tensor& mean_square, double tokens) {
  return (mean_square.to(at::kDouble) * tokens).to(at::kFloat).contiguous();
}

at::Tensor read_floats(const GgufFile& file, const GgufTensor& tensor) {
  if (tensor.type != GgmlType::F32 || tensor.shape.size() > 2) {
    refuse(file, fmt::format("tensor {}: expected F32 of one or two dimensions, found {} of {}",
                             quote_text(tensor.name), traits(tensor.type).name, tensor.shape.size()));
  }
  at::Tensor values = at::empty({tensor.numel() / tensor.columns(), tensor.columns()}, at::kFloat);
  std::memcpy(values.data_ptr(), tensor.bytes.data(), tensor.bytes.size());
  if (!values.isfinite().all().item<bool>() || values.lt(0).any().item<bool>()) {
    refuse(file, fmt::format("tensor {}: expected sums of squares and counts, found a value that is negative "
                             "or not finite",
                             quote_text(tensor.name)));
  }
  return values;
}

ImportanceMatrix::Entry read_entry(const GgufFile& file, const GgufTensor& sums_tensor,
                                   const std::string& name) {
  const GgufTensor* counts_tensor = file.tensor(name + std::string(kCounts));
  if (counts_tensor == nullptr)
    refuse(file, fmt::format("tensor {}: its counts are missing", quote_text(name)));
  const at::Tensor sums = read_floats(file, sums_tensor), counts = read_floats(file, *counts_tensor);
  if (counts.numel() != sums.size(0)) {
    refuse(file,
           fmt::format("tensor {}: {} sums but {} counts", quote_text(name), sums.size(0), counts.numel()));
  }
  const at::Tensor divisor = counts.view({-1, 1});
  ImportanceMatrix::Entry entry;
  entry.mean_square = at::where(divisor > 0, sums / divisor.clamp_min(1e-30), at::ones_like(sums));
  for (int64_t i = 0; i < counts.numel(); ++i) entry.tokens.push_back(counts.view(-1)[i].item<double>());
  return entry;
}

}  // namespace

ImportanceMatrix read_imatrix(const std::filesystem::path& path) {
  const GgufFile file = GgufFile::open(path);
  const auto* const type = value_of<std::string>(file, "general.type");
  if (type == nullptr || *type != "imatrix") {
    refuse(file, fmt::format("general.type: expected imatrix, found {}; an importance matrix is what "
                             "llama-imatrix or a calibrated run of Lathe's writes",
                             type == nullptr ? "none" : quote_text(*type)));
  }
  ImportanceMatrix matrix;
  if (const auto* list = value_of<GgufArray>(file, "imatrix.datasets")) {
    if (const auto* names = std::get_if<std::vector<std::string>>(list)) matrix.datasets = *names;
  }
  if (const auto* chunks = value_of<uint32_t>(file, "imatrix.chunk_count")) matrix.chunks = *chunks;
  if (const auto* size = value_of<uint32_t>(file, "imatrix.chunk_size")) matrix.chunk_size = *size;
  for (const GgufTensor& tensor : file.tensors()) {
    if (!tensor.name.ends_with(kSums)) continue;
    const std::string name = tensor.name.substr(0, tensor.name.size() - kSums.size());
    matrix.entries[name] = read_entry(file, tensor, name);
  }
  if (matrix.entries.empty()) refuse(file, "holds no sums of squares (<weight>.in_sum2)");
  return matrix;
}

at::Tensor ImportanceMatrix::of(const GgufTensorRule& rule, const std::filesystem::path& file) const {
  const auto found = entries.find(rule.gguf);
  if (found == entries.end()) {
    user_error("{}: has nothing on '{}': it is of another model, or too little text reached it",
               file.string(), rule.gguf);
  }
  const at::Tensor& values = found->second.mean_square;
  const int64_t matrices = std::max<int64_t>(rule.experts, 1);
  if (values.size(0) != matrices || values.size(1) != rule.shape[1]) {
    user_error("{}: '{}': expected {} x {} channels, found {} x {}: it is of another model", file.string(),
               rule.gguf, matrices, rule.shape[1], values.size(0), values.size(1));
  }
  return values[rule.expert];
}

at::Tensor stored_mean_square(const at::Tensor& mean_square, double tokens) {
  return sums_of(mean_square, tokens) / at::full({1, 1}, tokens, at::kFloat);
}

void write_imatrix(const std::filesystem::path& path, const ImportanceMatrix& matrix) {
  GgufMetadata keys = {{"general.type", std::string("imatrix")}};
  // gguf-py can't read an array without elements.
  if (!matrix.datasets.empty()) keys.emplace_back("imatrix.datasets", GgufArray(matrix.datasets));
  keys.emplace_back("imatrix.chunk_count", matrix.chunks);
  keys.emplace_back("imatrix.chunk_size", matrix.chunk_size);
  std::vector<GgufPlan> plans;
  for (const auto& [name, entry] : matrix.entries) {
    const int64_t matrices = entry.mean_square.size(0);
    plans.push_back({name + std::string(kSums), GgmlType::F32, {matrices, entry.mean_square.size(1)}});
    plans.push_back({name + std::string(kCounts), GgmlType::F32, {matrices, 1}});
  }
  GgufWriter writer(path, keys, plans);
  for (const auto& [name, entry] : matrix.entries) {
    const at::Tensor tokens = at::tensor(at::ArrayRef<double>(entry.tokens)).view({-1, 1});
    const at::Tensor sums = (entry.mean_square.to(at::kDouble) * tokens).to(at::kFloat).contiguous();
    const at::Tensor counts = tokens.to(at::kFloat).contiguous();
    writer.write(name + std::string(kSums), bytes_of(sums));
    writer.write(name + std::string(kCounts), bytes_of(counts));
  }
  writer.finish();
}

}  // namespace lathe
