// A folder of one kernel layout on disk: safetensors with the quantised linears as the kernel reads them, and
// layout.json, which says for each what it is. Written by apps/quantize/layout_writer.h.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "formats/layouts/layout.h"
#include "lib/base/file.h"
#include "lib/tensor/tensor_view.h"

namespace lathe {

/// Of layout.json; raised when a key changes its meaning or goes away, not when one is added.
inline constexpr int kLayoutSchema = 1;

class LayoutFolder {
 public:
  /// What layout.json says of a linear.
  struct StoredLinear {
    std::string scheme;  // Scheme::describe()
    int64_t out = 0, in = 0;
    bool act_order = false;  // are columns in an order of their own?
  };

  /// Does the folder hold a layout.json?
  static bool is_one(const std::filesystem::path& folder);
  /// Maps the files. UserError for a layout.json or a safetensors file that is malformed, for a layout or a
  /// schema that this version doesn't know, and for a tensor that stands in two files.
  static LayoutFolder open(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  const KernelLayout& layout() const { return *layout_; }
  const std::map<std::string, StoredLinear>& linears() const { return linears_; }  // by module name
  const std::map<std::string, TensorInfo>& tensors() const { return infos_; }
  const std::string& file_of(const std::string& tensor) const { return files_of_.at(tensor); }

  /// Contents in the order of layout().tensors(), shared with the mapped files. UserError naming the tensor
  /// where one is missing or not as it is planned.
  std::vector<at::Tensor> read(const PlannedLinear& linear) const;

 private:
  void map_file(const std::filesystem::path& path);
  void parse_description();

  std::filesystem::path folder_;
  const KernelLayout* layout_ = nullptr;
  std::map<std::string, StoredLinear> linears_;
  std::vector<MappedFile> files_;
  std::map<std::string, TensorView> views_;
  std::map<std::string, TensorInfo> infos_;
  std::map<std::string, std::string> files_of_;
};

}  // namespace lathe
