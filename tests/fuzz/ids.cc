// Token ids: .npy, or .safetensors where the input doesn't begin as one.
#include "calib/data/documents.h"
#include "tests/fuzz/fuzz.h"

void lathe::fuzz::read(std::string_view input) {
  static const Folder folder;
  const char* name = input.starts_with("\x93NUMPY") ? "ids.npy" : "ids.safetensors";
  for_each_document({folder.put(name, input)}, nullptr, [](const Document&) {});
}
