// What is filled beside its place and renamed at the end: names for it, and whole files.
#pragma once

#include <filesystem>
#include <string_view>

namespace lathe {

/// ".out.partial-PID" beside "out", an output_place(). What killed processes left of that name is removed.
std::filesystem::path partial_sibling(const std::filesystem::path& target);

/// As write_file(), but whatever stops it, the old file or none stands there, never a part of the new one. A
/// link stays one; what is no file (a pipe, /dev/stdout) is written as it is.
void replace_file(const std::filesystem::path& path, std::string_view contents);

}  // namespace lathe
