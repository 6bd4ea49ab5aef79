// What `verify` reads of a run: manifest.json, a NUL, and report.json.
#include "apps/quantize/verify.h"
#include "tests/fuzz/fuzz.h"

void lathe::fuzz::read(std::string_view input) {
  static const Folder folder;
  const size_t end = std::min(input.find('\0'), input.size());
  folder.put("manifest.json", input.substr(0, end));
  folder.put("report.json", input.substr(std::min(end + 1, input.size())));
  verify_folder(folder.path(), nullptr);
}
