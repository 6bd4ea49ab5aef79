// What stands where a run wants to write, as OutputFolder (file.h, in whose file the function is) will find
// it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace lathe {

/// Why an output folder can't be begun there ("output /o: already exists; choose another --output or pass
/// --overwrite"); nothing where nothing is in the way. UserError for an empty name.
std::optional<std::string> output_in_the_way(const std::filesystem::path& target, bool overwrite);

}  // namespace lathe
