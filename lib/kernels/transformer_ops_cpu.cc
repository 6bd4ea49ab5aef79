// The transformer kernels on the CPU: threads over rows or tokens, vectorisable loops within, compiled for
// three instruction sets with the same results in all (-O3 -ffp-contract=off, without the precompiled header;
// see CMakeLists.txt).
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "lib/kernels/target_clones.h"
#include "lib/kernels/transformer_rows.h"

namespace lathe::kernels::cpu {
namespace {

using Kind = GateFunction::Kind;

constexpr int kLanes = 64;
constexpr int64_t kGrainElements = 1 << 14;

/// Sum of squares in fixed lanes: one order, whatever the instruction set.
LATHE_CLONES float sum_of_squares(const float* x, int64_t width) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane] * x[i + lane];
  }
  for (int lane = 0; i + lane < width; ++lane) lanes[lane] += x[i + lane] * x[i + lane];
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

LATHE_CLONES void scale_row(const float* x, int64_t width, float factor, const float* weight, float offset,
                            float* y) {
  for (int64_t i = 0; i < width; ++i) y[i] = (x[i] * factor) * (offset + weight[i]);
}

LATHE_CLONES void rotate_token(const HeadLayout& layout, const float* cosines, const float* sines, float* x) {
  const int64_t half = layout.rotary / 2;
  for (int64_t head = 0; head < layout.heads; ++head) {
    float* a = x + head * layout.head_dim;
    float* b = a + half;
#pragma GCC ivdep
    for (int64_t i = 0; i < half; ++i) {
      const device::Pair turned =
          device::rotate_pair({a[i], b[i]}, {cosines[i], cosines[half + i]}, {sines[i], sines[half + i]});
      a[i] = turned.a;
      b[i] = turned.b;
    }
  }
}

// `out` may be `gate`: each value is read before it is written, so the loops have no dependence between
// turns.
LATHE_CLONES void gate_scaled_silu(const float* gate, const float* up, int64_t width, float slope,
                                   float* out) {
#pragma GCC ivdep
  for (int64_t i = 0; i < width; ++i) out[i] = device::scaled_silu_value(gate[i], slope) * up[i];
}

LATHE_CLONES void gate_gelu_tanh(const float* gate, const float* up, int64_t width, float* out) {
#pragma GCC ivdep
  for (int64_t i = 0; i < width; ++i) out[i] = device::gelu_tanh_value(gate[i]) * up[i];
}

LATHE_CLONES void gate_relu(const float* gate, const float* up, int64_t width, float* out) {
#pragma GCC ivdep
  for (int64_t i = 0; i < width; ++i) out[i] = device::relu_value(gate[i]) * up[i];
}

LATHE_CLONES void gate_relu2(const float* gate, const float* up, int64_t width, float* out) {
#pragma GCC ivdep
  for (int64_t i = 0; i < width; ++i)
    out[i] = device::relu_value(gate[i]) * device::relu_value(gate[i]) * up[i];
}

void gate_row(GateFunction function, const float* gate, const float* up, int64_t width, float* out) {
  switch (function.kind) {
    case Kind::scaled_silu:
      return gate_scaled_silu(gate, up, width, function.slope, out);
    case Kind::gelu_tanh:
      return gate_gelu_tanh(gate, up, width, out);
    case Kind::relu:
      return gate_relu(gate, up, width, out);
    case Kind::relu2:
      return gate_relu2(gate, up, width, out);
  }
}

template <class Body>
void for_each_row(int64_t rows, int64_t width, const Body& body) {
  const int64_t grain = std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, width));
  at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

}  // namespace

void rms_norm(RowLayout layout, const float* x, const float* weight, float offset, float eps, float* y) {
  for_each_row(layout.rows, layout.width, [&](int64_t row) {
    const float* values = x + row * layout.stride;
    const float mean = sum_of_squares(values, layout.width) / static_cast<float>(layout.width);
    scale_row(values, layout.width, 1.0f / std::sqrt(mean + eps), weight, offset, y + row * layout.width);
  });
}

void rotate_heads(HeadLayout layout, const float* cosines, const float* sines, float* x) {
  for_each_row(layout.tokens, layout.heads * layout.rotary, [&](int64_t token) {
    const int64_t table = token % layout.positions * layout.rotary;
    rotate_token(layout, cosines + table, sines + table, x + token * layout.stride);
  });
}

void gated_product(RowLayout layout, GateFunction function, const float* gate, const float* up, float* out) {
  for_each_row(layout.rows, layout.width, [&](int64_t row) {
    gate_row(function, gate + row * layout.stride, up + row * layout.stride, layout.width,
             out + row * layout.width);
  });
}

}  // namespace lathe::kernels::cpu
