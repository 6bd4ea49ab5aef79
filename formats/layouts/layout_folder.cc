#include "formats/layouts/layout_folder.h"

#include <ATen/core/Tensor.h>

#include "formats/safetensors/json_text.h"
#include "formats/safetensors/safetensors_header.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kDescription = "layout.json";
constexpr uint64_t kMaxDescriptionBytes = uint64_t{1} << 30;

/// The value under a key that passes `is_right`, or a UserError that says what was expected.
template <class IsRight>
const json& need(const json& object, const char* key, const std::string& where, const char* expected,
                 const IsRight& is_right) {
  const auto found = object.find(key);
  if (found != object.end() && is_right(*found)) return *found;
  user_error("{}: {}: expected {}, found {}", where, key, expected,
             found == object.end() ? "nothing" : quote_text(found->dump(-1, ' ', true)));
}

bool is_text(const json& value) { return value.is_string(); }
bool is_object(const json& value) { return value.is_object(); }
bool is_truth(const json& value) { return value.is_boolean(); }
bool is_shape(const json& value) {
  const auto size = [](const json& number) {
    return number.is_number_integer() && number > 0 && number < (int64_t{1} << 31);
  };
  return value.is_array() && value.size() == 2 && size(value[0]) && size(value[1]);
}

LayoutFolder::StoredLinear parse_linear(const json& value, const std::string& where) {
  if (!value.is_object()) user_error("{}: expected an object, found {}", where, quote_text(value.dump()));
  const json& shape = need(value, "shape", where, "[out, in]", is_shape);
  return {need(value, "scheme", where, "a scheme's name", is_text).get<std::string>(), shape[0], shape[1],
          need(value, "act_order", where, "true or false", is_truth).get<bool>()};
}

}  // namespace

bool LayoutFolder::is_one(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_regular_file(folder / kDescription, ignored);
}

LayoutFolder LayoutFolder::open(const fs::path& folder) {
  LayoutFolder result;
  result.folder_ = folder;
  result.parse_description();
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") result.map_file(entry.path());
  }
  return result;
}

void LayoutFolder::parse_description() {
  const std::string where = (folder_ / kDescription).string();
  const json description = read_json_object(folder_ / kDescription, kMaxDescriptionBytes);
  const auto is_schema = [](const json& value) { return value == kLayoutSchema; };
  need(description, "schema", where, "1, the one that this version reads", is_schema);
  const std::string name = need(description, "layout", where, "a layout's name", is_text);
  layout_ = find_kernel_layout(name);
  if (layout_ == nullptr) {
    std::vector<std::string> known;
    for (const KernelLayout& layout : kernel_layouts()) known.push_back(layout.name);
    user_error("{}: layout: expected one of {}, found {}{}", where, join_words(known), quote_text(name),
               did_you_mean(name, known));
  }
  for (const auto& [linear, value] :
       need(description, "linears", where, "an object of linears", is_object).items())
    linears_[linear] = parse_linear(value, where + ": linears." + quote_text(linear));
}

void LayoutFolder::map_file(const fs::path& path) {
  files_.push_back(MappedFile::open(path));
  const auto bytes = files_.back().bytes();
  for (StoredTensor& stored : parse_safetensors_header(bytes, path.string()).tensors) {
    const auto [file, is_new] = files_of_.emplace(stored.name, path.filename().string());
    if (!is_new) {
      user_error("{}: tensor {} stands in {} and in {}", folder_.string(), quote_text(stored.name),
                 file->second, path.filename().string());
    }
    infos_[stored.name] = stored.info;
    views_[stored.name] = {std::move(stored.info), bytes.subspan(stored.begin, stored.end - stored.begin)};
  }
  files_.back().release(bytes);
}

std::vector<at::Tensor> LayoutFolder::read(const PlannedLinear& linear) const {
  std::vector<at::Tensor> contents;
  for (const PlannedTensor& planned : layout_->tensors(linear)) {
    const auto found = views_.find(planned.name);
    if (found == views_.end()) {
      user_error("{}: tensor '{}' is missing: expected {}", folder_.string(), planned.name,
                 planned.info.describe());
    }
    if (found->second.info != planned.info) {
      user_error("{}: tensor '{}': expected {}, found {}", (folder_ / file_of(planned.name)).string(),
                 planned.name, planned.info.describe(), found->second.info.describe());
    }
    contents.push_back(borrow(found->second));
  }
  return contents;
}

}  // namespace lathe
