#include "lib/numeric/activation_scheme.h"

#include <fmt/format.h>

#include "lib/base/error.h"

namespace lathe {
namespace {

/// The one way in which engines read each floating-point type; nothing if it is this.
std::optional<std::string> float_problem(const ActivationScheme& scheme, const FloatGridType& grid) {
  if (scheme.bits != grid.number.bits())
    return fmt::format("activations of {} bits: {} has {}", scheme.bits, grid.name, grid.number.bits());
  if (!scheme.symmetric)
    return fmt::format("asymmetric activations: {} has no zero points; use symmetric: true", grid.name);
  if (grid.group_size != 0) {
    if (scheme.dynamic && scheme.per == ActivationScheme::Per::group && scheme.group_size == grid.group_size)
      return std::nullopt;
    return fmt::format("activations {}: {} has dynamic groups of {}; leave out `per` and `dynamic`",
                       scheme.describe(), grid.name, grid.group_size);
  }
  if (scheme.per == ActivationScheme::Per::group && (!scheme.dynamic || scheme.group_size < 1))
    return std::string("activations per group: need dynamic: true and a group_size");
  return std::nullopt;
}

}  // namespace

const char* name_of(ActivationScheme::Per per) {
  static constexpr const char* kNames[] = {"token", "tensor", "group"};
  return kNames[static_cast<int>(per)];
}

ActivationScheme ActivationScheme::of_floats(std::string_view type) {
  ActivationScheme scheme;
  scheme.type = type;
  const FloatGridType* const grid = scheme.float_grid();
  LATHE_ASSERT(grid != nullptr, "activations of type '{}'", type);
  scheme.bits = grid->number.bits();
  scheme.group_size = grid->group_size;
  if (grid->group_size != 0) scheme.per = Per::group;
  return scheme;
}

Scheme ActivationScheme::as_rows() const {
  Scheme scheme{.type = type, .bits = bits, .group_size = -1, .symmetric = symmetric};
  if (per == Per::group) scheme.group_size = group_size;
  return scheme;
}

std::string ActivationScheme::describe() const {
  if (float_grid() != nullptr) {
    const std::string groups = per == Per::group ? fmt::format(" of {}", group_size) : "";
    return fmt::format("{} {} per {}{}", type, dynamic ? "dynamic" : "static", name_of(per), groups);
  }
  return fmt::format("{}{} {} {} per {}", type, bits, symmetric ? "sym" : "asym",
                     dynamic ? "dynamic" : "static", name_of(per));
}

std::optional<std::string> ActivationScheme::problem() const {
  if (const FloatGridType* const grid = float_grid()) {
    if (const auto reason = float_problem(*this, *grid)) return reason;
  } else if (type != "int") {
    return fmt::format("activations of type '{}': expected int, or a floating-point grid", type);
  } else if (per == Per::group) {
    return "integer activations per group: no engine reads them; use per: token or tensor";
  }
  if (float_grid() == nullptr && bits != 8) {
    return fmt::format("activations of {} bits: expected 8", bits);
  }
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
