// A journal as it stands on the disk; and the record of a block's outcome alone, which few inputs would reach
// behind its checksum.
#include "lib/base/journal.h"

#include <nlohmann/json.hpp>

#include "apps/quantize/journal/outcome_record.h"
#include "lib/model/graph.h"
#include "tests/fuzz/fuzz.h"

namespace {

lathe::ModelGraph small_graph() {
  const nlohmann::json config = {
      {"model_type", "llama"},  {"hidden_size", 64},        {"intermediate_size", 96},
      {"num_hidden_layers", 2}, {"num_attention_heads", 4}, {"num_key_value_heads", 2},
      {"vocab_size", 50},       {"torch_dtype", "float32"}, {"max_position_embeddings", 64}};
  return lathe::build_graph(lathe::parse_model_config(config, "config.json"));
}

}  // namespace

void lathe::fuzz::read(std::string_view input) {
  if (input.starts_with("LATHEJNL")) {
    static const Folder folder;
    const JournalReader reader(folder.put("journal", input));
    for (size_t i = 0; i < reader.records().size(); ++i) reader.payload(i);
    return;
  }
  static const ModelGraph graph = small_graph();
  read_outcome(std::as_bytes(std::span(input)), graph);
}
