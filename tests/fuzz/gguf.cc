// A GGUF file: its header, and the configuration, tokenizer or importances that it holds.
#include "formats/gguf/gguf_file.h"

#include "formats/gguf/gguf_tokenizer.h"
#include "formats/gguf/imatrix.h"
#include "formats/gguf/model_keys.h"
#include "lib/base/error.h"
#include "tests/fuzz/fuzz.h"

void lathe::fuzz::read(std::string_view input) {
  static const Folder folder;
  const auto path = folder.put("model.gguf", input);
  const GgufFile file = GgufFile::open(path);
  for (const auto& [key, value] : file.metadata()) describe(value);
  const GgufValue* type = file.find("general.type");
  if (type != nullptr && describe(*type) == "imatrix") {
    read_imatrix(path);
    return;
  }
  tokenizer_of_gguf(file);
  config_of_gguf(file);
}
