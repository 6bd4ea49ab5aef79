// Block Hadamard rotation: a group of weights or inputs in which a few are far larger than the rest becomes
// one whose values are alike (Ashkboos et al., QuaRot, arXiv 2404.00456; in blocks of the size of a
// micro-scaled format's groups: Egiazarian et al., MR-GPTQ, arXiv 2509.23202).
//
// With H = diag(S_b, ..., S_b) / sqrt(b), S_b Sylvester's matrix of order b,
//
//     x W^T = (x H) (W H)^T,      for H H^T = 1 (H is symmetric, too),
//
// so that a linear puts out what it did. Each value of x H and W H is a sum of b of the old ones with signs,
// over sqrt(b): outliers spread over their block, and the rest is close to normal. What that is worth depends
// on the grid, and is to be measured (tests/bench/RESULTS.md): a scale for each small group bears its largest
// value well as it is (the paper's abstract: NVFP4's groups of 16 neutralise what is done against outliers),
// scales that are powers of two (MXFP4) don't.
//
// What is rotated: the inputs of the linears that a rule quantises, and their weights' columns; linears in
// floating point stay as they are. Ranges, solvers and activations' grids see the rotated values: statistics
// are of x H, whose Gram matrix is H^T G H. Who runs the model rotates each input online, which takes a
// consumer that knows (compressed-tensors' transform_config: vLLM), and costs b log2(b) additions for each
// block of each token. Nothing is folded into neighbours, so that norms and linears in floating point keep
// their bytes, and no other transform stands beside it: scales chosen for the channels as they are would be
// mixed by it.
//
// What differs from the paper: H has the same order for each linear, not that of its scheme's groups; no
// order of columns is chosen; GPTQ is that of solver gptq.
#include "algorithms/hadamard.h"

namespace lathe {
namespace {

/// The driver rotates, as schemes say: this one only says how.
class Hadamard final : public Transform {
 public:
  explicit Hadamard(int64_t block) : block_(block) {}

  StatSet needs() const override { return {}; }
  FoldDecision fold(const ScaleEdge&, const SharedInputProblem&) const override {
    return {.scales = {}, .note = "it rotates, and folds no scales"};
  }
  std::optional<GroupRange> range(const LinearProblem&, const InputStats&) const override {
    return std::nullopt;
  }
  int64_t rotation() const override { return block_; }

 private:
  int64_t block_;
};

}  // namespace

const std::vector<OptionSpec>& hadamard_options() {
  static const std::vector<OptionSpec> specs = {
      {"block", int64_t{32}, "channels that are rotated together: 16, 32, 64 or 128", 16, 128, {}},
  };
  return specs;
}

std::unique_ptr<Transform> make_hadamard(const Options& options) {
  return std::make_unique<Hadamard>(options.integer("block"));
}

}  // namespace lathe
