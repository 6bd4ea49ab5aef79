// How many operations an algorithm cannot do without: the bound that its time is compared with.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace lathe::bench {

/// FLOPs (an FMA is two) of the matrix products at default options, for weights [out, in] and, where they
/// count, as many tokens; nothing for what memory or comparisons bound.
std::optional<double> operations_of(const std::string& algorithm, int64_t out, int64_t in, int64_t tokens);

}  // namespace lathe::bench
