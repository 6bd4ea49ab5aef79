// What a check found: which check, where, what was expected and what is there.
#pragma once

#include <string>
#include <vector>

namespace lathe {

struct Finding {
  std::string check;  // one of check::...
  std::string place;  // tensor, linear, file or key
  std::string expected, found;

  /// "scales: model.layers.0.mlp.up_proj: expected ..., found ..."
  std::string text() const { return check + ": " + place + ": expected " + expected + ", found " + found; }
};
using Findings = std::vector<Finding>;

/// The checks' names, as reports and `quantize verify` give them.
namespace check {
inline constexpr const char* files = "files";            // shards, their index, and what else stands there
inline constexpr const char* layout = "layout";          // tensors are those that the configuration promises
inline constexpr const char* config = "config";          // the configuration is that of model and recipe
inline constexpr const char* manifest = "manifest";      // manifest.json's hashes
inline constexpr const char* accounted = "accounted";    // each input tensor is there, and none besides
inline constexpr const char* kept = "kept";              // tensors that nothing should have changed
inline constexpr const char* folded = "folded";          // those that a fold changed go with its consumers
inline constexpr const char* unpacked = "unpacked";      // two ways to unpack agree
inline constexpr const char* meant = "meant";            // it is what the solver meant
inline constexpr const char* numbers = "numbers";        // codes, scales and zero points are what they may be
inline constexpr const char* flattened = "flattened";    // no group or row that lost all it held
inline constexpr const char* distance = "distance";      // to the original, within what the scheme predicts
inline constexpr const char* duplicates = "duplicates";  // no two linears alike
inline constexpr const char* fallbacks = "fallbacks";    // solvers did what they were asked
inline constexpr const char* divergence = "divergence";  // the model's outputs
}  // namespace check

}  // namespace lathe
