// The header of a safetensors file.
#include "formats/safetensors/safetensors_header.h"

#include "tests/fuzz/fuzz.h"

void lathe::fuzz::read(std::string_view input) {
  parse_safetensors_header(std::as_bytes(std::span(input)), "model.safetensors");
}
