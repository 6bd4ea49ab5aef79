// Dynamic programming over a core (Pisinger, "A minimal algorithm for the multiple-choice knapsack problem",
// European Journal of Operational Research 83, 1995; Kellerer, Pferschy, Pisinger, "Knapsack Problems", 2004,
// ch. 11):
//
//   1. The linear relaxation: from the lightest options, steps along the classes' hulls, those that save most
//      for their weight first, until one doesn't fit. Its ratio is the price of weight; the choice before it
//      is the base, which minimises cost + price x weight over all choices.
//   2. Going on with what still fits gives a first choice within the limit: the incumbent.
//   3. Classes are opened one by one, those first that have an option whose ratio is nearest to the price. A
//      state is a choice of all classes: of those open, anything; of the others, the base's. Of states only
//      undominated ones stay (lists ascending in weight, strictly falling in cost, as Nemhauser and Ullmann),
//      and of these only such as can come to less than the incumbent: what a state is over the limit has to
//      be given up, at no better ratio than the best of classes that aren't open (`up`); what it is under it
//      can be spent, at no better one either (`down`). Since the base is optimal for the price, down <= price
//      <= up, so that giving up some weight to spend it elsewhere never pays, and both bounds hold for
//      whatever the rest of the classes take.
//   4. When no state is left, the incumbent is the optimum: nothing else can be cheaper.
//
// What differs from the paper: classes are opened in one order that is fixed at the beginning, sums are cut
// to multiples of the greatest common divisor of all differences, and ratios are compared in 128 bits,
// exactly.
//
// Cost: a few dozen classes are opened out of hundreds before all states are beaten, and lists of some
// thousands; without bounds they would be as long as there are different sums (10^7 for a model of 70B with
// types of GGUF). States are kept for all open classes to find the choice again.
#include "recipes/budget/knapsack.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "lib/base/cancel.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

__extension__ using Wide = __int128;

constexpr size_t kPollStates = 1 << 16;

/// Cost for weight; {1, 0} is infinite.
struct Ratio {
  int64_t cost = 0, weight = 1;

  bool operator<(const Ratio& other) const { return Wide{cost} * other.weight < Wide{other.cost} * weight; }
};

/// The lower convex hull of one class, from its lightest option on.
std::vector<HullEdge> hull_of(const std::vector<KnapsackOption>& options, size_t cls) {
  std::vector<size_t> order(options.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, [&](size_t a, size_t b) {
    return std::pair(options[a].weight, options[a].cost) < std::pair(options[b].weight, options[b].cost);
  });
  std::vector<HullEdge> edges;
  size_t last = order.front();
  for (const size_t o : order) {
    if (options[o].cost >= options[last].cost) continue;
    const auto edge = [&](size_t from) {
      return HullEdge{cls, from, o, options[o].weight - options[from].weight,
                      options[from].cost - options[o].cost};
    };
    HullEdge added = edge(last);
    while (!edges.empty() &&
           !(Ratio{added.cost, added.weight} < Ratio{edges.back().cost, edges.back().weight})) {
      added = edge(edges.back().from);
      edges.pop_back();
    }
    edges.push_back(added);
    last = o;
  }
  return edges;
}

/// A class that can leave the base's choice, by options that no other of them beats.
struct OpenClass {
  size_t cls = 0;
  std::vector<size_t> options;   // ascending in weight
  Ratio up = {1, 0}, down = {};  // the least that giving weight up costs, the most that weight saves
};

/// How a state was made: from which of the states before, by which option.
struct Step {
  std::vector<uint32_t> before;
  std::vector<uint8_t> option;
};

class Search {
 public:
  Search(const std::vector<std::vector<KnapsackOption>>& classes, std::vector<size_t> base,
         KnapsackOption base_sum, std::vector<size_t> incumbent, int64_t incumbent_cost, int64_t limit,
         int64_t cost_unit, size_t most_states)
      : classes_(classes),
        base_(std::move(base)),
        states_({base_sum}),
        limit_(limit),
        unit_(cost_unit),
        best_(std::move(incumbent)),
        best_cost_(incumbent_cost),
        most_states_(most_states) {}

  std::vector<size_t> run() {
    open_ = order();
    // The best ratios of classes from each one on.
    std::vector<Ratio> up(open_.size() + 1, Ratio{1, 0}), down(open_.size() + 1);
    for (size_t k = open_.size(); k-- > 0;) {
      up[k] = std::min(up[k + 1], open_[k].up);
      down[k] = std::max(down[k + 1], open_[k].down);
    }
    prune(up[0], down[0]);
    for (size_t k = 0; k < open_.size() && !states_.empty(); ++k) add(k, up[k + 1], down[k + 1]);
    return found_ ? traced() : best_;
  }

 private:
  struct Found {
    size_t step = 0, before = 0, option = 0;
  };

  /// Those whose ratio is nearest to the price first.
  std::vector<OpenClass> order() const {
    std::vector<OpenClass> all;
    for (size_t c = 0; c < classes_.size(); ++c) {
      const auto& options = classes_[c];
      const KnapsackOption& base = options[base_[c]];
      OpenClass one;
      one.cls = c;
      std::vector<size_t> order(options.size());
      std::iota(order.begin(), order.end(), size_t{0});
      std::ranges::sort(order, [&](size_t a, size_t b) {
        return std::pair(options[a].weight, options[a].cost) < std::pair(options[b].weight, options[b].cost);
      });
      for (const size_t o : order) {
        if (!one.options.empty() && options[o].cost >= options[one.options.back()].cost) continue;
        one.options.push_back(o);
        if (options[o].weight < base.weight)
          one.up = std::min(one.up, Ratio{options[o].cost - base.cost, base.weight - options[o].weight});
        if (options[o].weight > base.weight)
          one.down = std::max(one.down, Ratio{base.cost - options[o].cost, options[o].weight - base.weight});
      }
      if (one.options.size() > 1) all.push_back(std::move(one));
    }
    // The price lies between all classes' `down` and `up`; the ratio of these two is how near a class comes.
    Ratio least{1, 0}, most;
    for (const OpenClass& one : all) least = std::min(least, one.up), most = std::max(most, one.down);
    const auto value = [](const Ratio& r) {
      return static_cast<double>(r.cost) / static_cast<double>(r.weight);
    };
    const double low = std::max(value(most), std::numeric_limits<double>::min());
    const double price = least.weight == 0 ? low : std::sqrt(low * std::max(value(least), low));
    std::vector<std::pair<double, size_t>> keys;
    for (size_t k = 0; k < all.size(); ++k)
      keys.emplace_back(std::min(value(all[k].up) / price, price / value(all[k].down)), k);
    std::ranges::sort(keys);
    std::vector<OpenClass> sorted;
    for (const auto& [key, k] : keys) sorted.push_back(std::move(all[k]));
    return sorted;
  }

  /// Whether the state can't come to less than the incumbent, whatever classes with these ratios take.
  bool beaten(const KnapsackOption& state, const Ratio& up, const Ratio& down) const {
    const Wide wanted = Wide{best_cost_} - unit_;  // what a better one costs at most
    const int64_t over = state.weight - limit_;
    if (over > 0) return Wide{over} * up.cost > (wanted - state.cost) * up.weight;
    return (state.cost - wanted) * down.weight > Wide{-over} * down.cost;
  }

  void prune(const Ratio& up, const Ratio& down) {
    std::erase_if(states_, [&](const KnapsackOption& state) { return beaten(state, up, down); });
  }

  /// One ascending list of states for each option of a class, all of them merged.
  void add(size_t k, const Ratio& up, const Ratio& down) {
    const OpenClass& open = open_[k];
    const auto& options = classes_[open.cls];
    const KnapsackOption base = options[base_[open.cls]];
    std::vector<size_t> next(open.options.size(), 0);
    std::vector<KnapsackOption> merged;
    Step step;
    int64_t cheapest = std::numeric_limits<int64_t>::max();
    for (size_t count = 1;; ++count) {
      if (count % kPollStates == 0) check(merged.size());
      size_t least = open.options.size();
      KnapsackOption found;
      for (size_t i = 0; i < open.options.size(); ++i) {
        if (next[i] == states_.size()) continue;
        const KnapsackOption& before = states_[next[i]];
        const KnapsackOption& option = options[open.options[i]];
        const KnapsackOption state{before.weight + option.weight - base.weight,
                                   before.cost + option.cost - base.cost};
        if (least != open.options.size() &&
            std::pair(state.weight, state.cost) >= std::pair(found.weight, found.cost))
          continue;
        least = i;
        found = state;
      }
      if (least == open.options.size()) break;
      const size_t before = next[least]++;
      if (found.cost >= cheapest) continue;  // beaten by a lighter one
      cheapest = found.cost;
      if (found.weight <= limit_ && found.cost < best_cost_) {
        best_cost_ = found.cost;
        found_ = Found{k, before, open.options[least]};
      }
      if (beaten(found, up, down)) continue;
      merged.push_back(found);
      step.before.push_back(static_cast<uint32_t>(before));
      step.option.push_back(static_cast<uint8_t>(open.options[least]));
    }
    check(merged.size());
    states_ = std::move(merged);
    prune_kept(step, up, down);
    kept_ += states_.size();
    steps_.push_back(std::move(step));
  }

  void check(size_t states) const {
    throw_if_cancelled();
    if (kept_ + states <= most_states_) return;
    user_error(
        "candidates: more than {} mixtures are as good as the best to within a trifle, too many to tell them "
        "apart; expected fewer candidates, or such as differ more in size",
        most_states_);
  }

  /// Once more, for the incumbent may have become better while states were merged.
  void prune_kept(Step& step, const Ratio& up, const Ratio& down) {
    size_t kept = 0;
    for (size_t i = 0; i < states_.size(); ++i) {
      if (beaten(states_[i], up, down)) continue;
      states_[kept] = states_[i];
      step.before[kept] = step.before[i];
      step.option[kept] = step.option[i];
      ++kept;
    }
    states_.resize(kept);
    step.before.resize(kept);
    step.option.resize(kept);
  }

  std::vector<size_t> traced() const {
    std::vector<size_t> choice = base_;
    choice[open_[found_->step].cls] = found_->option;
    size_t state = found_->before;
    for (size_t k = found_->step; k-- > 0;) {
      choice[open_[k].cls] = steps_[k].option[state];
      state = steps_[k].before[state];
    }
    return choice;
  }

  const std::vector<std::vector<KnapsackOption>>& classes_;
  std::vector<size_t> base_;
  std::vector<KnapsackOption> states_;
  int64_t limit_, unit_;
  std::vector<size_t> best_;
  int64_t best_cost_;
  size_t most_states_;
  std::optional<Found> found_;
  std::vector<OpenClass> open_;
  std::vector<Step> steps_;
  size_t kept_ = 0;
};

}  // namespace

Knapsack::Knapsack(std::vector<std::vector<KnapsackOption>> classes, size_t most_states)
    : classes_(std::move(classes)), most_states_(most_states) {
  LATHE_ASSERT(!classes_.empty(), "a knapsack of no class");
  int64_t weight_unit = 0, cost_unit = 0;
  for (size_t c = 0; c < classes_.size(); ++c) {
    const auto& options = classes_[c];
    LATHE_ASSERT(!options.empty() && options.size() <= std::numeric_limits<uint8_t>::max(),
                 "a class of {} options", options.size());
    const auto lightest = std::ranges::min_element(
        options, {}, [](const KnapsackOption& o) { return std::pair(o.weight, o.cost); });
    lightest_.push_back(static_cast<size_t>(lightest - options.begin()));
    for (const KnapsackOption& option : options) {
      LATHE_ASSERT(option.weight >= 0 && option.cost >= 0, "a negative option");
      weight_unit = std::gcd(weight_unit, option.weight - lightest->weight);
      cost_unit = std::gcd(cost_unit, option.cost - lightest->cost);
    }
    for (const HullEdge& edge : hull_of(options, c)) edges_.push_back(edge);
  }
  weight_unit_ = std::max<int64_t>(weight_unit, 1);
  cost_unit_ = std::max<int64_t>(cost_unit, 1);
  // Within a class ratios fall, and the order of equal ones stays.
  std::ranges::stable_sort(edges_, [](const HullEdge& a, const HullEdge& b) {
    return Ratio{b.cost, b.weight} < Ratio{a.cost, a.weight};
  });
}

KnapsackOption Knapsack::sum(const std::vector<size_t>& choice) const {
  KnapsackOption sum;
  for (size_t c = 0; c < classes_.size(); ++c) {
    sum.weight += classes_[c][choice[c]].weight;
    sum.cost += classes_[c][choice[c]].cost;
  }
  return sum;
}

std::optional<std::vector<size_t>> Knapsack::least_cost(int64_t limit,
                                                        const std::vector<size_t>* known) const {
  std::vector<size_t> base = lightest_;
  KnapsackOption at = sum(base);
  if (at.weight > limit) return std::nullopt;
  limit = at.weight + (limit - at.weight) / weight_unit_ * weight_unit_;
  size_t next = 0;
  for (; next < edges_.size() && edges_[next].weight <= limit - at.weight; ++next) {
    base[edges_[next].cls] = edges_[next].to;
    at.weight += edges_[next].weight;
    at.cost -= edges_[next].cost;
  }
  if (next == edges_.size()) return base;  // every class has its cheapest
  std::vector<size_t> filled = base;
  KnapsackOption full = at;
  for (; next < edges_.size(); ++next) {
    const HullEdge& edge = edges_[next];
    if (filled[edge.cls] != edge.from || edge.weight > limit - full.weight) continue;
    filled[edge.cls] = edge.to;
    full.weight += edge.weight;
    full.cost -= edge.cost;
  }
  if (known != nullptr) {
    const KnapsackOption other = sum(*known);
    LATHE_ASSERT(other.weight <= limit, "a known choice of {} within {}", other.weight, limit);
    if (other.cost <= full.cost) filled = *known, full = other;
  }
  return Search(classes_, base, at, filled, full.cost, limit, cost_unit_, most_states_).run();
}

}  // namespace lathe
