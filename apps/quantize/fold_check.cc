#include "apps/quantize/fold_check.h"

#include "lib/base/error.h"
#include "recipes/algorithm_checks.h"

namespace lathe {

void FoldCensus::note(const BlockOutcome& outcome) {
  for (const FoldOutcome& fold : outcome.folds) {
    if (counts_.size() <= fold.transform) counts_.resize(fold.transform + 1);
    Count& count = counts_[fold.transform];
    count.edges += 1;
    if (fold.applied) count.applied += 1;
    if (count.first_note.empty() && !fold.applied) {
      count.first_producer = fold.edge->producer;
      count.first_note = fold.note;
    }
  }
}

void FoldCensus::check(const Recipe& recipe) const {
  if (!moves_scales(recipe)) return;  // a rotation stands alone
  for (size_t t = 0; t < recipe.transforms.size(); ++t) {
    const Count count = t < counts_.size() ? counts_[t] : Count{};
    if (count.applied > 0) continue;
    user_error(
        "{}: transforms[{}] ({}): moved no scale in the whole model: of {} places, the first, behind '{}', "
        "was "
        "left because {}; leave the transform out, or change its options",
        recipe.file, t, recipe.transforms[t].name, count.edges, count.first_producer, count.first_note);
  }
}

}  // namespace lathe
