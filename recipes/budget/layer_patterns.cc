#include "recipes/budget/layer_patterns.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

namespace lathe {
namespace {

bool is_number(const std::string& word) {
  return !word.empty() && std::ranges::all_of(word, [](unsigned char c) { return std::isdigit(c) != 0; });
}

std::vector<std::string> words_of(const std::string& name) {
  std::vector<std::string> words = {""};
  for (const char c : name) {
    if (c == '.') {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  return words;
}

std::string escaped(const std::string& word) {
  static constexpr std::string_view kSpecial = R"(\^$.|?*+()[]{}/)";
  std::string text;
  for (const char c : word) {
    if (kSpecial.find(c) != std::string_view::npos) text += '\\';
    text += c;
  }
  return text;
}

/// What stands before a name's layer and after it, as expressions.
struct Parts {
  std::string before, after;
  int64_t layer = -1;  // -1: it has none, and is all `after`
};

Parts parts_of(const std::string& name) {
  Parts parts;
  std::string* text = &parts.before;
  for (const std::string& word : words_of(name)) {
    if (is_number(word) && parts.layer < 0) {
      parts.layer = std::stoll(word);
      text = &parts.after;
      continue;
    }
    if (!text->empty()) *text += "\\.";
    *text += is_number(word) ? "[0-9]+" : escaped(word);
  }
  if (parts.layer < 0) std::swap(parts.before, parts.after);
  return parts;
}

std::string alternatives(const std::set<std::string>& words) {
  return words.size() == 1 ? *words.begin() : fmt::format("({})", fmt::join(words, "|"));
}

}  // namespace

std::vector<std::string> layer_patterns(const std::vector<std::string>& names, int64_t layers) {
  std::map<std::pair<std::string, int64_t>, std::set<std::string>> by_layer;  // what of each layer
  for (const std::string& name : names) {
    const Parts parts = parts_of(name);
    by_layer[{parts.before, parts.layer}].insert(parts.after);
  }
  // Layers of which the same is named come together.
  std::map<std::pair<std::string, std::set<std::string>>, std::set<int64_t>> by_part;
  for (const auto& [place, after] : by_layer) {
    for (const std::string& part : after) by_part[{place.first, {part}}].insert(place.second);
  }
  std::map<std::pair<std::string, std::set<int64_t>>, std::set<std::string>> merged;
  for (const auto& [part, numbers] : by_part) merged[{part.first, numbers}].insert(*part.second.begin());
  std::vector<std::string> patterns;
  for (const auto& [place, parts] : merged) {
    const auto& [before, numbers] = place;
    if (*numbers.begin() < 0) {
      patterns.push_back(fmt::format("/^{}$/", alternatives(parts)));
      continue;
    }
    const bool all = static_cast<int64_t>(numbers.size()) == layers;
    const std::string list = all                   ? "[0-9]+"
                             : numbers.size() == 1 ? std::to_string(*numbers.begin())
                                                   : fmt::format("({})", fmt::join(numbers, "|"));
    patterns.push_back(fmt::format("/^{}\\.{}\\.{}$/", before, list, alternatives(parts)));
  }
  return patterns;
}

}  // namespace lathe
