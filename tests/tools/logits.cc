// logits MODEL_FOLDER IDS.json OUT.f32
// Runs the whole model in FP32 on rows of token ids ([[1, 2, ...], ...], all of one length) and writes the
// logits as raw little-endian FP32, [rows, seq, vocab], row-major. For the parity tests, which compare them
// with transformers.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "formats/targets/model_folder.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/model/forward.h"

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

at::Tensor run_model(const ModelFolder& folder, const at::Tensor& ids) {
  const lathe::ModelGraph& graph = folder.graph;
  const lathe::RopeTables rope = rope_tables(graph.config, ids.size(1), at::kCPU);
  const at::Tensor embedding = folder.weights->load(graph.embedding + ".weight");
  at::Tensor hidden = lathe::embed(graph, embedding, ids);
  for (const lathe::Block& block : graph.blocks) {
    const lathe::BlockWeights weights(block, *folder.weights, at::kCPU);
    hidden = lathe::BlockForward(graph.config, block, weights, rope).run(hidden);
  }
  const at::Tensor norm = folder.weights->load(graph.final_norm.name + ".weight");
  const bool tied = graph.config.tie_word_embeddings;
  const at::Tensor head = tied ? embedding : folder.weights->load(graph.lm_head.name + ".weight");
  return lathe::head(graph, norm, head, at::Tensor(), hidden);
}

void write_logits(const std::string& path, const at::Tensor& logits) {
  std::ofstream out(path, std::ios::binary);
  out.write(static_cast<const char*>(logits.const_data_ptr()), static_cast<std::streamsize>(logits.nbytes()));
  if (!out.flush()) lathe::user_error("{}: can't be written", path);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    fmt::print(stderr, "usage: logits MODEL_FOLDER IDS.json OUT.f32\n");
    return 2;
  }
  try {
    const at::NoGradGuard no_grad;
    const ModelFolder folder = lathe::open_model_folder(argv[1]);
    write_logits(argv[3], run_model(folder, read_ids(argv[2], folder.graph.config.vocab_size)).contiguous());
  } catch (const std::exception& error) {
    fmt::print(stderr, "logits: {}\n", error.what());
    return 2;
  }
  return 0;
}
