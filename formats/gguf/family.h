// What llama.cpp makes of a family: the architecture's name in a file, and what its code takes for granted.
// Source: llama.cpp's src/models/*.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace lathe {

struct GgufFamily {
  std::string_view model_type, architecture;
  bool interleaved = false;  // rows of q and k
  bool attention_bias = false, other_bias = false;
  std::string_view activation = "silu";
  bool windows = false;             // the architecture has a sliding window
  int64_t window_period = 0;        // layers n - 1, 2 n - 1, ... see all tokens
  int64_t widest_scale_layers = 0;  // with so many layers, the scale of q k^T is that of hidden / heads
  bool square_attention = false;    // all heads' channels together are as many as the hidden state's
  bool rope_factors = false;        // LongRoPE's lists have tensors, and a part of a head may turn
  std::optional<bool> normalises = std::nullopt;  // experts: their probabilities; nothing: a dense family
};

/// All of them. Where two have one architecture, the first is what such a file is read as, but for experts.
std::span<const GgufFamily> gguf_families();
/// Null for a family without a row.
const GgufFamily* find_gguf_family(std::string_view model_type);

/// "llama" for llama, mistral and mixtral, "gemma3" for gemma3_text, ...; nothing for a family that llama.cpp
/// reads otherwise than the map of tensors says.
std::optional<std::string_view> gguf_architecture(const std::string& model_type);
/// The family whose config.json a file of this architecture becomes, with experts or without; nothing for one
/// that Lathe doesn't read.
std::optional<std::string_view> model_type_of_architecture(const std::string& architecture, bool experts);

}  // namespace lathe
