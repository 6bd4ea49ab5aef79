#include "lib/model/activation.h"

#include <array>

#include "lib/base/error.h"

namespace lathe {
namespace {

using kernels::Activation;

struct ActivationRow {
  std::string_view name;
  Activation activation;
};

// gelu_new, gelu_fast, gelu_accurate and gelu_python_tanh spell the same formula.
constexpr std::array<ActivationRow, 12> kActivations = {{
    {"silu", Activation::silu},
    {"swish", Activation::silu},
    {"gelu", Activation::gelu},
    {"gelu_python", Activation::gelu},
    {"gelu_pytorch_tanh", Activation::gelu_tanh},
    {"gelu_python_tanh", Activation::gelu_tanh},
    {"gelu_new", Activation::gelu_tanh},
    {"gelu_fast", Activation::gelu_tanh},
    {"gelu_accurate", Activation::gelu_tanh},
    {"quick_gelu", Activation::quick_gelu},
    {"relu", Activation::relu},
    {"relu2", Activation::relu2},
}};

const ActivationRow* row_of(std::string_view name) {
  for (const ActivationRow& row : kActivations) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

}  // namespace

bool is_activation(std::string_view name) { return row_of(name) != nullptr; }

std::vector<std::string> activation_names() {
  std::vector<std::string> names;
  for (const ActivationRow& row : kActivations) names.emplace_back(row.name);
  return names;
}

Activation find_activation(std::string_view name) {
  const ActivationRow* row = row_of(name);
  LATHE_ASSERT(row != nullptr, "activation '{}'", name);
  return row->activation;
}

}  // namespace lathe
