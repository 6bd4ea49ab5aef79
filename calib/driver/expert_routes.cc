#include "calib/driver/expert_routes.h"

#include <ATen/ATen.h>

#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/tensor/copy_stream.h"

namespace lathe {

ExpertRoutes::ExpertRoutes(const Block& block, const BlockStream& stream,
                           const std::vector<RowRange>& chunks) {
  std::vector<at::Tensor> tokens, weights, begins;
  for (const RowRange rows : chunks) {
    throw_if_cancelled();
    const Routing routing = stream.forward().route(stream.mlp_in_again(rows));
    const Routing::Order order = routing.order(block.experts->count);
    tokens.push_back(order.places.div(routing.experts.size(1), "floor").to(at::kInt));
    weights.push_back(routing.weights.reshape({-1}).index_select(0, order.places));
    begins.push_back(order.begins);
  }
  const at::Tensor all_tokens = at::cat(tokens).cpu(), all_weights = at::cat(weights).cpu();
  const at::Tensor all_begins = at::stack(begins).cpu();
  int64_t place = 0, first = 0;
  for (size_t chunk = 0; chunk < chunks.size(); ++chunk) {
    const int64_t* const begin =
        all_begins.const_data_ptr<int64_t>() + all_begins.stride(0) * static_cast<int64_t>(chunk);
    const int64_t places = tokens[chunk].size(0);
    chunks_.push_back({.first = first,
                       .tokens = all_tokens.narrow(0, place, places),
                       .weights = all_weights.narrow(0, place, places),
                       .begin = {begin, begin + all_begins.size(1)}});
    place += places;
    first += places / block.experts->per_token;
  }
}

at::Tensor ExpertRoutes::tokens(size_t chunk, int64_t expert) const {
  const Chunk& of = chunks_.at(chunk);
  return of.tokens.narrow(0, of.begin.at(static_cast<size_t>(expert)), count(chunk, expert)).to(at::kLong);
}

int64_t ExpertRoutes::count(size_t chunk, int64_t expert) const {
  const std::vector<int64_t>& begin = chunks_.at(chunk).begin;
  return begin.at(static_cast<size_t>(expert) + 1) - begin.at(static_cast<size_t>(expert));
}

int64_t ExpertRoutes::count(int64_t expert) const {
  int64_t sum = 0;
  for (size_t chunk = 0; chunk < chunks_.size(); ++chunk) sum += count(chunk, expert);
  return sum;
}

int64_t ExpertRoutes::token(int64_t expert, int64_t n) const {
  for (size_t chunk = 0; chunk < chunks_.size(); ++chunk) {
    const int64_t here = count(chunk, expert);
    if (n < here) return chunks_[chunk].first + tokens(chunk, expert)[n].item<int64_t>();
    n -= here;
  }
  internal_error("expert {} was sent {} tokens, and the one after {} more is asked for", expert,
                 count(expert), n);
}

std::vector<Routing::Rows> ExpertRoutes::by_expert(size_t chunk, c10::Device device) const {
  const Chunk& of = chunks_.at(chunk);
  const at::Tensor tokens = queued_copy(of.tokens, device).to(at::kLong);
  const at::Tensor weights = queued_copy(of.weights, device);
  std::vector<Routing::Rows> rows;
  for (size_t expert = 0; expert + 1 < of.begin.size(); ++expert) {
    const int64_t first = of.begin[expert], n = of.begin[expert + 1] - first;
    rows.push_back({tokens.narrow(0, first, n), weights.narrow(0, first, n)});
  }
  return rows;
}

}  // namespace lathe
