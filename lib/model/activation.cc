#include "lib/model/activation.h"

#include <ATen/ATen.h>

#include <array>

#include "lib/base/error.h"

namespace lathe {
namespace {

using Function = at::Tensor (*)(const at::Tensor&);

struct ActivationRow {
  std::string_view name;
  Function function;
};

at::Tensor silu(const at::Tensor& x) { return at::silu(x); }
at::Tensor relu(const at::Tensor& x) { return at::relu(x); }
at::Tensor gelu(const at::Tensor& x) { return at::gelu(x); }               // exact, with erf
at::Tensor gelu_tanh(const at::Tensor& x) { return at::gelu(x, "tanh"); }  // arXiv 1606.08415, section 2
at::Tensor quick_gelu(const at::Tensor& x) { return x * at::sigmoid(1.702 * x); }
at::Tensor relu2(const at::Tensor& x) { return at::relu(x).square(); }  // arXiv 2109.08668

// gelu_new, gelu_fast, gelu_accurate and gelu_python_tanh spell the same formula.
constexpr std::array<ActivationRow, 12> kActivations = {{
    {"silu", silu},
    {"swish", silu},
    {"gelu", gelu},
    {"gelu_python", gelu},
    {"gelu_pytorch_tanh", gelu_tanh},
    {"gelu_python_tanh", gelu_tanh},
    {"gelu_new", gelu_tanh},
    {"gelu_fast", gelu_tanh},
    {"gelu_accurate", gelu_tanh},
    {"quick_gelu", quick_gelu},
    {"relu", relu},
    {"relu2", relu2},
}};

const ActivationRow* find_activation(std::string_view name) {
  for (const ActivationRow& row : kActivations) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

}  // namespace

bool is_activation(std::string_view name) { return find_activation(name) != nullptr; }

std::vector<std::string> activation_names() {
  std::vector<std::string> names;
  for (const ActivationRow& row : kActivations) names.emplace_back(row.name);
  return names;
}

at::Tensor activate(std::string_view name, const at::Tensor& x) {
  const ActivationRow* row = find_activation(name);
  LATHE_ASSERT(row != nullptr, "activation '{}'", name);
  return row->function(x);
}

}  // namespace lathe
