// A folder that is there while somebody works at what goes into it.
#pragma once

#include <filesystem>
#include <vector>

namespace lathe {

/// Makes the folder and the parents that it lacks. The destructor removes those of them that are empty then,
/// so that work that was refused, or failed, leaves nothing. UserError where one can't be made.
class NewFolder {
 public:
  explicit NewFolder(const std::filesystem::path& folder);
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;
  ~NewFolder();

 private:
  void remove_empty() noexcept;

  std::vector<std::filesystem::path> made_;  // parents first
};

}  // namespace lathe
