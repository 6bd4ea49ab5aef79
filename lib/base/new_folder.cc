#include "lib/base/new_folder.h"

#include <algorithm>
#include <ranges>
#include <system_error>

#include "lib/base/error.h"

namespace lathe {

namespace fs = std::filesystem;

NewFolder::NewFolder(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> missing;
  for (fs::path place = folder; !place.empty() && !fs::exists(place, error); place = place.parent_path())
    missing.push_back(place);
  for (const fs::path& place : missing | std::views::reverse) {
    if (fs::create_directory(place, error)) made_.push_back(place);
    if (error) break;
  }
  if (error || !fs::is_directory(folder, error)) {
    remove_empty();
    user_error("{}: can't be created: {}", folder.string(),
               error ? error.message() : "something else stands there");
  }
}

NewFolder::~NewFolder() { remove_empty(); }

void NewFolder::remove_empty() noexcept {
  std::error_code error;  // one that holds something stays
  for (const fs::path& place : made_ | std::views::reverse) fs::remove(place, error);
}

}  // namespace lathe
