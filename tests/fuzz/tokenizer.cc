// tokenizer.json, and a text that goes through what it says.
#include "lib/text/tokenizer.h"

#include "tests/fuzz/fuzz.h"

void lathe::fuzz::read(std::string_view input) {
  static const Folder folder;
  folder.put("tokenizer.json", input);
  const auto tokenizer = open_tokenizer(folder.path());
  for (const bool special : {false, true})
    tokenizer->encode("Ab  c1,\n\xC3\xA9<s> don't \xE2\x96\x81 x", special);
  tokenizer->pieces();
}
