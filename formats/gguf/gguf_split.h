// Models in several files, <name>-00001-of-00003.gguf and so on: the first has the model's keys, every one
// its own tensors and three keys that say which part it is. Source: llama.cpp's tools/gguf-split and
// src/llama-model-loader.cpp.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "formats/gguf/gguf_file.h"
#include "formats/gguf/gguf_value.h"

namespace lathe {

struct SplitPlace {
  int64_t number = 0;   // of this part, from 0
  int64_t count = 1;    // of parts
  int64_t tensors = 0;  // of all parts together
};

/// "<name>-00001-of-00003.gguf" for number 0 of 3.
std::string split_name(const std::string& name, int64_t number, int64_t count);
/// The name of the whole model that a file's name without its ending stands for: "model" for
/// "model-00001-of-00003", other names as they are.
std::string whole_name(const std::string& stem);
/// Is it named as a part of a split model that is not the first?
bool is_later_part(const std::filesystem::path& file);
/// The three keys.
GgufMetadata split_keys(const SplitPlace& place);

/// What the file says of itself; nothing for a whole one. UserError for keys of other types, or that
/// contradict each other.
std::optional<SplitPlace> split_place(const GgufFile& file);
/// The files that follow the first. UserError where `first` is another part, or isn't named as such.
std::vector<std::filesystem::path> later_parts(const GgufFile& first, const SplitPlace& place);
/// UserError where the file is not that part of that split.
void check_part(const GgufFile& file, const SplitPlace& expected);

}  // namespace lathe
