// A Hugging Face folder opened for reading: config.json and memory-mapped safetensors shards. Headers are
// validated before anything is allocated; no tensor byte is touched. Cheap: milliseconds and a few MB for any
// model size.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lib/tensor/tensor_view.h"

namespace lathe {

class Checkpoint {
 public:
  /// UserError naming file, tensor or key for anything malformed: see the table of hostile files in the
  /// tests.
  static Checkpoint open(const std::filesystem::path& folder);
  /// A checkpoint without shards: `make` gives a tensor's bytes when they are asked for, and they live as
  /// long as the view. `place` (a file, or a folder, whose side files are its own) is named in errors.
  static Checkpoint made(const std::filesystem::path& place, nlohmann::json config,
                         std::map<std::string, TensorInfo> tensors,
                         std::function<TensorView(const std::string& name)> make);
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  const std::filesystem::path& folder() const;
  /// config.json. Where that says nothing of a quantisation and a file beside it does, with a
  /// quantization_config that holds what the file says (quantization_file.h).
  const nlohmann::json& config() const;
  /// Where the quantization_config stands, for errors: "<folder>/config.json: quantization_config", or
  /// "<folder>/quantize_config.json". Of a checkpoint with a folder.
  std::string quantization_place() const;
  const std::map<std::string, TensorInfo>& tensors() const;  // all, by name
  bool contains(const std::string& name) const;
  TensorView view(const std::string& name) const;  // UserError for an unknown name
  /// Lets the memory of bytes that were read through view() go; they can be read again.
  void release(const std::string& name) const { release(name, view(name).bytes); }
  void release(const std::string& name, std::span<const std::byte> part) const;
  const std::string& file_of(const std::string& name) const;  // "model-00001-of-00002.safetensors"
  uint64_t total_bytes() const;
  /// Files of the folder and its subfolders that hold no weights (tokenizer, licence, README, ...), for
  /// copying along. No config.json, index or shard, nothing hidden, no subfolder that is a model of its own,
  /// `layouts` or `kv_cache`; of made() ones no files that say how the folder's tensors are quantised.
  /// UserError for a link out of the folder that doesn't lead into the hub's cache.
  std::vector<std::filesystem::path> side_files() const;

  /// From then on the tensor `from` is called `to`. UserError where there is one of that name.
  void rename(const std::string& from, const std::string& to);

  /// One matrix out of a tensor that holds several: rows [first_row, first_row + rows), leading dimensions
  /// flattened.
  struct Part {
    std::string name;
    int64_t rows = 0, first_row = 0;
  };
  /// From then on the parts, [rows, columns] each, stand in tensors() and view() in place of the tensor. No
  /// byte is copied. InternalError where they overlap, leave rows out, or take a name that is there.
  void split(const std::string& name, const std::vector<Part>& parts);

 private:
  struct State;
  explicit Checkpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace lathe
