// Models that advice is tested with.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "recipes/deployment.h"

namespace lathe {

/// A dense Llama: `kv` is the width of its keys.
inline ServedModel llama(int64_t layers, int64_t hidden, int64_t kv, int64_t intermediate,
                         int64_t vocabulary) {
  ServedModel model{.family = "llama",
                    .hidden = hidden,
                    .intermediate = intermediate,
                    .attention = hidden,
                    .kv = kv,
                    .vocabulary = vocabulary};
  for (int64_t layer = 0; layer < layers; ++layer) {
    const std::vector<ServedModel::Matrix> linears = {{.out = hidden, .in = hidden},
                                                      {.out = kv, .in = hidden, .kv_rows = kv},
                                                      {.out = kv, .in = hidden, .kv_rows = kv},
                                                      {.out = hidden, .in = hidden},
                                                      {.out = intermediate, .in = hidden},
                                                      {.out = intermediate, .in = hidden},
                                                      {.out = hidden, .in = intermediate}};
    for (const ServedModel::Matrix& linear : linears) {
      model.linears.push_back(linear);
      model.parameters += linear.out * linear.in;
    }
    model.cache.push_back({2 * kv, 0});
  }
  model.floating = 2 * vocabulary * hidden + (2 * layers + 1) * hidden;
  model.parameters += model.floating;
  return model;
}
inline ServedModel llama_7b() { return llama(32, 4096, 4096, 11008, 32000); }
inline ServedModel llama_13b() { return llama(40, 5120, 5120, 13824, 32000); }
inline ServedModel llama3_70b() { return llama(80, 8192, 1024, 28672, 128256); }

inline Precision precision(const std::string& name) {
  for (const Precision& each : precisions())
    if (each.name == name) return each;
  ADD_FAILURE() << name;
  return {};
}

/// A model of a round number of weights, as people speak of them.
inline uint64_t nominal(int64_t billions, const std::string& name) {
  ServedModel model;
  model.parameters = billions * 1'000'000'000;
  return weight_size(model, precision(name)).nominal;
}

/// On a GPU of the table.
inline Advice advice_on(const ServedModel& model, const std::string& gpu, int64_t context = 4096,
                        int64_t batch = 1) {
  const Gpu& found = find_gpu(gpu);
  return advise(model, {.memory = found.memory, .gpu = &found, .context = context, .batch = batch});
}
inline std::string weights_on(const ServedModel& model, const std::string& gpu, int64_t batch = 1) {
  const Advice advice = advice_on(model, gpu, 2048, batch);
  return advice.chosen ? advice.rows[*advice.chosen].precision->name : "none";
}

inline ServedModel smollm2() { return llama(30, 576, 192, 1536, 49152); }
inline ServedModel llama3_8b() { return llama(32, 4096, 1024, 14336, 128256); }

}  // namespace lathe
