// A row for each GGUF type; formats/gguf does the work.
#include <fmt/format.h>

#include "formats/gguf/mix.h"
#include "formats/targets/target.h"

namespace lathe {
namespace {

/// MODEL.gguf stands for the file's name, which the writer puts there.
constexpr const char* kHowToLoad =
    R"(With llama.cpp (https://github.com/ggml-org/llama.cpp) and whatever builds on it:

    llama-cli -m this/folder/MODEL.gguf -p "Once upon a time"
    python -c 'from llama_cpp import Llama; print(Llama("this/folder/MODEL.gguf")("Once upon a time"))'

`imatrix.gguf`, where there is one, is the importance matrix of the calibration, as llama-quantize takes it.
`quantize eval --model this/folder` scores the model.

With transformers (needs `gguf` and `accelerate`; one file, not parts), which dequantises it:

    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained("this/folder", gguf_file="MODEL.gguf")
    tokenizer = AutoTokenizer.from_pretrained("this/folder", gguf_file="MODEL.gguf")

With vLLM (needs `vllm-gguf-plugin`; `--tokenizer` with the original model saves it the conversion of the file's):

    vllm serve this/folder/MODEL.gguf

With SGLang (one file, not parts):

    python -m sglang.launch_server --model-path this/folder/MODEL.gguf
)";

std::string summary_of(const GgufMix& mix) {
  const GgmlTraits& base = traits(mix.base);
  if (base.length == 1) return fmt::format("one GGUF file for llama.cpp: {} matrices", base.name);
  return fmt::format("one GGUF file for llama.cpp: {} blocks ({:.2f} bits/weight){}", base.name,
                     bits_per_weight(mix.base),
                     mix.name == base.name ? "" : " and larger ones, as llama-quantize mixes them");
}

}  // namespace

std::vector<Target> gguf_targets() {
  std::vector<Target> rows;
  for (const GgufMix& mix : gguf_mixes()) {
    Target target{.name = fmt::format("gguf:{}", mix.name),
                  .summary = summary_of(mix),
                  .how_to_load = kHowToLoad,
                  .refuses = nullptr,
                  .layout = nullptr,
                  .pack = nullptr,
                  .quantization_config = nullptr};
    target.gguf = &mix;
    rows.push_back(std::move(target));
  }
  return rows;
}

}  // namespace lathe
