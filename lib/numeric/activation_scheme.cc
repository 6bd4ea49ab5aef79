#include "lib/numeric/activation_scheme.h"

#include <fmt/format.h>

namespace lathe {

const char* name_of(ActivationScheme::Per per) {
  return per == ActivationScheme::Per::token ? "token" : "tensor";
}

std::string ActivationScheme::describe() const {
  return fmt::format("{}{} {} {} per {}", type, bits, symmetric ? "sym" : "asym",
                     dynamic ? "dynamic" : "static", name_of(per));
}

std::optional<std::string> ActivationScheme::problem() const {
  if (type != "int") return fmt::format("activations of type '{}': expected int", type);
  if (bits != 8) return fmt::format("activations of {} bits: expected 8", bits);
  if (dynamic && per == Per::tensor) {
    return "dynamic activations per tensor: no engine reads them, for a token's result would depend on the "
           "others in its batch; use per: token, or dynamic: false";
  }
  if (!dynamic && per == Per::token) {
    return "static activations per token: a token's scale can't be known before the token; use per: tensor, "
           "or dynamic: true";
  }
  return std::nullopt;
}

std::string with_input(std::string weights, const std::optional<ActivationScheme>& activations) {
  return activations ? fmt::format("{}, input {}", weights, activations->describe()) : std::move(weights);
}

}  // namespace lathe
