// A model's config as keys of a GGUF file (general.*, <architecture>.*), and back as a config.json.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

#include "formats/gguf/gguf_file.h"
#include "formats/gguf/gguf_value.h"
#include "formats/gguf/mix.h"
#include "lib/model/graph.h"

namespace lathe {

/// general.quantization_version: of ggml's block formats.
inline constexpr uint32_t kGgmlQuantVersion = 2;

/// `name`: for people. Keys and types as llama.cpp's converter writes them.
GgufMetadata model_keys(const ModelGraph& graph, const std::string& name, const GgufMix& mix,
                        int64_t parameters);

/// "7.2B", "5.8M": as gguf-py's size_label().
std::string size_label(int64_t parameters);

/// The config.json of the model that a file holds, in the words of parse_model_config(). UserError naming the
/// file and the key for one that is missing, of another type or out of range, and for an architecture that
/// Lathe doesn't read.
nlohmann::json config_of_gguf(const GgufFile& file);

}  // namespace lathe
