// The weights as they are, transforms so far applied: for output formats that round them by themselves, to
// grids of their own (GGUF's block types). Such a format wants two things of a calibrated run, which the
// driver hands over with every linear: the (folded) weights, and E[x^2] of each input channel, which says how
// much an error in that column costs (llama.cpp's importance matrix). What is calibrated after such a linear
// sees its unrounded output, as in llama-imatrix, which measures the floating-point model.
#include "algorithms/floating.h"

#include "lib/base/error.h"

namespace lathe {
namespace {

class Floating final : public Solver {
 public:
  StatSet needs() const override { return {}; }
  RangeOffers range_offers() const override { return RangeOffers::unused; }

  std::vector<SolveResult> solve(const SharedInputProblem& problem) const override {
    std::vector<SolveResult> results;
    for (const LinearProblem& linear : problem.linears) {
      LATHE_ASSERT(linear.scheme.floating(), "{}: solver float and scheme {}", linear.name,
                   linear.scheme.describe());
      QuantizedTensor result;
      result.scheme = linear.scheme;
      result.scale_dtype = linear.scale_dtype;
      result.values = linear.weight.contiguous();
      results.push_back({std::move(result), {}});
    }
    return results;
  }
};

}  // namespace

const std::vector<OptionSpec>& floating_options() {
  static const std::vector<OptionSpec> none;
  return none;
}

std::unique_ptr<Solver> make_floating(const Options&) { return std::make_unique<Floating>(); }

std::optional<std::string> floating_refuses(const Scheme& scheme) {
  if (scheme.floating()) return std::nullopt;
  return "it rounds nothing; use `scheme: {type: float}`, or another solver";
}

}  // namespace lathe
