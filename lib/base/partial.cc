#include "lib/base/partial.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/file.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

/// Begins the suffix; the process's number follows.
constexpr std::string_view kPartial = "partial-";

/// Removes what runs for the same target left behind that were killed: their number names no living process.
void remove_abandoned(const fs::path& target) {
  const std::string prefix = hidden_sibling(target, kPartial).filename().string();
  std::error_code ignored;
  std::vector<fs::path> abandoned;
  for (const auto& entry : fs::directory_iterator(target.parent_path(), ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix)) continue;
    const std::string digits = name.substr(prefix.size());
    if (digits.empty() || digits.size() > 9 || digits.find_first_not_of("0123456789") != std::string::npos)
      continue;
    if (::kill(std::stoi(digits), 0) != 0 && errno == ESRCH) abandoned.push_back(entry.path());
  }
  for (const fs::path& path : abandoned) fs::remove_all(path, ignored);
}

}  // namespace

fs::path partial_sibling(const fs::path& target) {
  remove_abandoned(target);
  return hidden_sibling(target, fmt::format("{}{}", kPartial, ::getpid()));
}

void replace_file(const fs::path& path, std::string_view contents) {
  std::error_code code;
  const fs::file_status there = fs::status(path, code);
  if (fs::exists(there) && !fs::is_regular_file(there)) return write_file(path, contents);
  const fs::path target = fs::is_symlink(path, code) ? fs::weakly_canonical(path, code) : output_place(path);
  const fs::path part = partial_sibling(target);
  std::error_code ignored;
  try {
    write_file(part, contents);
    fs::rename(part, target, code);
    if (code) user_error("{}: can't be renamed into place: {}", path.string(), code.message());
  } catch (const UserError&) {
    fs::remove(part, ignored);
    throw;
  }
  sync_folder(target.parent_path());
}

}  // namespace lathe
