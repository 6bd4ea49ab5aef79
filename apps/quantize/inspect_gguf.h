// What `quantize inspect` says of a GGUF file.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace lathe {

/// The keys of the folder's description (see inspect.cc) that a GGUF file has an answer to, and its own:
/// "keys", each as text. UserError as GgufFile::open().
nlohmann::ordered_json describe_gguf(const std::filesystem::path& file);

/// The lines after the table of tensors.
std::string gguf_lines(const nlohmann::ordered_json& described);

}  // namespace lathe
