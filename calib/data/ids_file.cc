#include "calib/data/ids_file.h"

#include <ATen/ATen.h>

#include "calib/data/npy_header.h"
#include "formats/safetensors/safetensors_header.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/partial.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

std::string_view text_of(const at::Tensor& tensor) {
  const auto bytes = bytes_of(tensor);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool is_npy(const std::filesystem::path& file) { return file.extension() == ".npy"; }

/// The whole file.
std::string contents_of(const std::filesystem::path& file, const CalibrationSet& set) {
  check_ids_file(file);
  const at::Tensor ids = set.ids.contiguous();
  if (is_npy(file)) {
    if (!set.lengths.empty() || set.token_weights.defined()) {
      user_error("{}: the samples differ in {}, which a .npy file can't say; write a .safetensors file",
                 file.string(), set.lengths.empty() ? "their tokens' weights" : "length");
    }
    return format_npy_header({ids.size(0), ids.size(1)}).append(text_of(ids));
  }
  std::vector<PlannedTensor> tensors = {{"input_ids", info_of(ids)}};
  const at::Tensor lengths = at::tensor(set.lengths, at::kLong);
  if (!set.lengths.empty()) tensors.push_back({"lengths", info_of(lengths)});
  const at::Tensor& weights = set.token_weights;
  if (weights.defined()) tensors.push_back({"token_weights", info_of(weights)});
  std::string contents = format_safetensors_header(tensors);
  contents.append(text_of(ids));
  if (!set.lengths.empty()) contents.append(text_of(lengths));
  if (weights.defined()) contents.append(text_of(weights));
  return contents;
}

}  // namespace

void check_ids_file(const std::filesystem::path& file) {
  if (is_npy(file) || file.extension() == ".safetensors") return;
  user_error("{}: token ids are written to .safetensors or .npy files", file.string());
}

void write_ids_file(const std::filesystem::path& file, const CalibrationSet& set) {
  replace_file(file, contents_of(file, set));
}

bool holds_ids(const std::filesystem::path& file, const CalibrationSet& set) {
  return read_text_file(file) == contents_of(file, set);
}

}  // namespace lathe
