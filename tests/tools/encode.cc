// encode MODEL_FOLDER FILE [--special] [--strings]: the token ids of a text, for the peer tests.
//
// FILE is a text, or with --strings a JSON list of strings. Prints the ids as a JSON list, or as one list a
// string.
// --special adds what the post-processor adds (BOS, ...).
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/text/tokenizer.h"

namespace {

int encode(const std::vector<std::string>& arguments) {
  std::vector<std::string> names;
  bool special = false;
  bool strings = false;
  for (const std::string& argument : arguments) {
    if (argument == "--special") {
      special = true;
    } else if (argument == "--strings") {
      strings = true;
    } else {
      names.push_back(argument);
    }
  }
  if (names.size() != 2) lathe::user_error("usage: encode MODEL_FOLDER FILE [--special] [--strings]");
  const auto tokenizer = lathe::open_tokenizer(names[0]);
  const std::string text = lathe::read_text_file(names[1]);
  nlohmann::json result = nlohmann::json::array();
  if (strings) {
    for (const auto& item : nlohmann::json::parse(text)) {
      result.push_back(tokenizer->encode(item.get_ref<const std::string&>(), special));
    }
  } else {
    result = tokenizer->encode(text, special);
  }
  std::puts(result.dump().c_str());
  return 0;
}

}  // namespace

int main(int count, char** values) {
  try {
    return encode({values + 1, values + count});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "encode: %s\n", error.what());
    return 2;
  }
}
