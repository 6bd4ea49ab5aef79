// logits MODEL_FOLDER IDS.json OUT.f32 [DEVICE [COMPUTE_DTYPE]]
// Runs the whole model on rows of token ids ([[1, 2, ...], ...], all of one length) and writes the logits as
// raw little-endian FP32, [rows, seq, vocab], row-major. On the CPU in FP32 unless told otherwise (the words
// of
// --device and --compute-dtype). For the parity tests, which compare them with transformers, and to compare
// devices.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "formats/targets/model_folder.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/model/block_loader.h"
#include "lib/model/compute_dtype.h"
#include "lib/tensor/device.h"

namespace {

using lathe::ModelFolder;

at::Tensor read_ids(const std::string& path, int64_t vocab) {
  const auto rows =
      nlohmann::json::parse(lathe::read_text_file(path)).get<std::vector<std::vector<int64_t>>>();
  if (rows.empty() || rows[0].empty()) lathe::user_error("{}: no token ids", path);
  at::Tensor ids = at::empty({std::ssize(rows), std::ssize(rows[0])}, at::kLong);
  auto out = ids.accessor<int64_t, 2>();
  for (int64_t r = 0; r < ids.size(0); ++r) {
    if (std::ssize(rows[r]) != ids.size(1)) lathe::user_error("{}: rows of different lengths", path);
    for (int64_t t = 0; t < ids.size(1); ++t) {
      if (rows[r][t] < 0 || rows[r][t] >= vocab)
        lathe::user_error("{}: token id {} outside the vocabulary", path, rows[r][t]);
      out[r][t] = rows[r][t];
    }
  }
  return ids;
}

at::Tensor run_model(const ModelFolder& folder, const at::Tensor& ids, c10::Device device,
                     lathe::DType compute) {
  const lathe::ModelGraph& graph = folder.graph;
  const auto load = [&](const std::string& name) {
    return folder.weights->load(name + ".weight").to(device);
  };
  lathe::BlockLoader blocks(graph, *folder.weights, device, compute);
  const lathe::RopeTables rope = rope_tables(graph.config, ids.size(1), device);
  const at::Tensor embedding = load(graph.embedding);
  at::Tensor hidden = lathe::embed(graph, embedding, ids.to(device));
  for (const lathe::Block& block : graph.blocks) {
    const lathe::BlockWeights weights = blocks.next();
    hidden = lathe::BlockForward(graph.config, block, weights, rope).run(hidden);
  }
  const at::Tensor norm = load(graph.final_norm().name);
  const at::Tensor head = graph.config.tie_word_embeddings ? embedding : load(graph.lm_head().name);
  const auto input = folder.weights->input_quantizer(graph.lm_head().name);
  return lathe::head(graph, norm, head, at::Tensor(), hidden, input ? &*input : nullptr).cpu();
}

void write_logits(const std::string& path, const at::Tensor& logits) {
  std::ofstream out(path, std::ios::binary);
  out.write(static_cast<const char*>(logits.const_data_ptr()), static_cast<std::streamsize>(logits.nbytes()));
  if (!out.flush()) lathe::user_error("{}: can't be written", path);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4 || argc > 6) {
    fmt::print(stderr, "usage: logits MODEL_FOLDER IDS.json OUT.f32 [DEVICE [COMPUTE_DTYPE]]\n");
    return 2;
  }
  try {
    const at::NoGradGuard no_grad;
    const ModelFolder folder = lathe::open_model_folder(argv[1]);
    const c10::Device device = lathe::resolve_device(argc > 4 ? argv[4] : "cpu");
    const lathe::DType compute =
        lathe::resolve_compute_dtype(argc > 5 ? argv[5] : "f32", device, folder.graph.config.dtype);
    const at::Tensor ids = read_ids(argv[2], folder.graph.config.vocab_size);
    write_logits(argv[3], run_model(folder, ids, device, compute).contiguous());
  } catch (const std::exception& error) {
    fmt::print(stderr, "logits: {}\n", error.what());
    return 2;
  }
  return 0;
}
