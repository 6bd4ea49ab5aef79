#include "formats/consumers/loading.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/strings.h"

namespace lathe {
namespace {

constexpr std::string_view kWith = "With ";

/// A target's text: from each paragraph that begins with "With " to the next such.
std::vector<std::string> ways_of(const std::string& text) {
  std::vector<std::string> ways;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find(fmt::format("\n\n{}", kWith), begin);
    const size_t next = end == std::string::npos ? text.size() : end + 2;
    ways.push_back(text.substr(begin, next - begin));
    begin = next;
  }
  return ways;
}

/// Is a way's, or a verdict's, consumer of that name: "vLLM", "vLLM on Hopper"?
bool is_called(const std::string& consumer, const std::string& name) {
  return consumer == name || consumer.starts_with(name + " ");
}

/// Whom "With vLLM, ..." is about, of those that are judged; empty: nobody of them.
std::string consumer_of(const std::string& way, const std::vector<ConsumerVerdict>& verdicts) {
  std::string found;
  if (!way.starts_with(kWith)) return found;
  for (const ConsumerVerdict& verdict : verdicts) {
    const std::string& name = verdict.consumer;
    const size_t end = kWith.size() + name.size();
    const bool named = way.compare(kWith.size(), name.size(), name) == 0 && end < way.size() &&
                       std::string_view(" ,:").find(way[end]) != std::string_view::npos;
    if (named && (found.empty() || name.size() < found.size())) found = name;
  }
  return found;
}

}  // namespace

std::set<std::string> loading_consumers(const std::vector<ConsumerVerdict>& verdicts) {
  std::set<std::string> kinds, names;
  for (const ConsumerVerdict& verdict : verdicts) kinds.insert(verdict.linears);
  if (kinds.size() > 1) kinds.erase("");  // of readers, whose verdict is about all linears at once
  for (const ConsumerVerdict& one : verdicts) {
    const auto runs = [&](const std::string& kind) {
      return std::ranges::any_of(verdicts, [&](const ConsumerVerdict& verdict) {
        const bool fine =
            !verdict.kernel.empty() && (verdict.problem.empty() || !verdict.tensor_parallel.empty());
        return fine && is_called(one.consumer, verdict.consumer) &&
               (verdict.linears == kind || verdict.linears.empty());
      });
    };
    if (std::ranges::all_of(kinds, runs)) names.insert(one.consumer);
  }
  return names;
}

std::string ways_to_load(const std::string& text, const std::vector<ConsumerVerdict>& verdicts) {
  const std::set<std::string> loading = loading_consumers(verdicts);
  std::string kept;
  std::vector<std::string> left_out;
  bool somebody = false;
  for (const std::string& way : ways_of(text)) {
    const std::string consumer = consumer_of(way, verdicts);
    std::vector<std::string> forms;  // "vLLM on Hopper", where "vLLM" alone is none
    for (const std::string& name : loading)
      if (!consumer.empty() && is_called(name, consumer)) forms.push_back(name);
    if (!consumer.empty() && forms.empty()) {
      left_out.push_back(consumer);
      continue;
    }
    somebody = true;
    const size_t head = kWith.size() + consumer.size();
    const bool any_form = consumer.empty() || loading.contains(consumer);
    kept += any_form ? way : fmt::format("{}{} only{}", kWith, join_words(forms), way.substr(head));
  }
  if (left_out.empty()) return kept;
  while (kept.ends_with('\n')) kept.pop_back();
  const std::string others = fmt::format("{} {} not load all of it (why: \"What consumers make of it\").\n",
                                         join_words(left_out), left_out.size() == 1 ? "does" : "do");
  if (somebody) return kept + "\n\n" + others;
  return "No server whose rules Lathe knows loads all of it; `quantize eval --model this/folder` scores "
         "it.\n\n" +
         others;
}

}  // namespace lathe
