#include "lib/model/alike_blocks.h"

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>

namespace lathe {
namespace {

bool alike(const Norm& a, const Norm& b) {
  return a.name.empty() == b.name.empty() && a.width == b.width && a.one_plus == b.one_plus;
}

bool alike(const ScaleEdge& a, const ScaleEdge& b) {
  const auto parts = [](const ScaleEdge& e) {
    return std::tie(e.producer_kind, e.input, e.repeat, e.head_dim, e.first_row, e.closed);
  };
  return parts(a) == parts(b);
}

bool alike(const std::optional<Experts>& a, const std::optional<Experts>& b) {
  if (!a || !b) return a.has_value() == b.has_value();
  return a->count == b->count && a->per_token == b->per_token && a->normalise == b->normalise;
}

}  // namespace

bool alike(const Linear& a, const Linear& b) {
  const auto parts = [](const Linear& l) {
    return std::tie(l.role, l.input, l.out, l.in, l.bias, l.shared_expert);
  };
  return parts(a) == parts(b) && a.stored.has_value() == b.stored.has_value();
}

bool alike(const Block& a, const Block& b) {
  const auto norms = [](const Block& c) {
    return std::array{&c.attention_norm, &c.mlp_norm,           &c.q_norm,
                      &c.k_norm,         &c.attention_out_norm, &c.mlp_out_norm};
  };
  const auto rules = [](const Block& c) {
    return std::tie(c.attention_scale, c.attention_softcap, c.qkv_clip, c.sliding_window, c.local_rope);
  };
  return rules(a) == rules(b) && alike(a.experts, b.experts) &&
         std::ranges::equal(norms(a), norms(b), [](auto* x, auto* y) { return alike(*x, *y); }) &&
         std::ranges::equal(a.linears, b.linears, [](auto& x, auto& y) { return alike(x, y); }) &&
         std::ranges::equal(a.edges, b.edges, [](auto& x, auto& y) { return alike(x, y); });
}

}  // namespace lathe
