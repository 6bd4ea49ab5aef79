#include "calib/sensitivity/checked_groups.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "lib/base/spread.h"

namespace lathe {
namespace {

constexpr int64_t kCheckedRows = 4;

/// Groups of one role, of experts apart, by depth.
std::vector<std::vector<size_t>> by_role(const SensitivityJob& job) {
  std::map<std::pair<LinearRole, bool>, std::vector<size_t>> roles;
  for (size_t g = 0; g < job.groups.size(); ++g) {
    const TrialGroup& group = job.groups[g];
    if (is_head(job, group)) continue;  // has no estimate
    const Linear& first = part_of(job, group).linears[group.linears.front()];
    roles[{first.role, first.input.expert.has_value()}].push_back(g);
  }
  std::vector<std::vector<size_t>> lists;
  for (auto& [role, groups] : roles) {
    std::ranges::stable_sort(groups, {}, [&](size_t g) { return job.groups[g].block; });
    lists.push_back(std::move(groups));
  }
  return lists;
}

}  // namespace

std::vector<size_t> spread_groups(const SensitivityJob& job, int64_t count) {
  const std::vector<std::vector<size_t>> roles = by_role(job);
  int64_t groups_in_all = 0;
  for (const std::vector<size_t>& groups : roles) groups_in_all += std::ssize(groups);
  count = std::min(count, groups_in_all);
  std::set<size_t> chosen;
  for (int64_t i = 0; i < count; ++i) {
    const std::vector<size_t>& groups = roles[static_cast<size_t>(i) % roles.size()];
    chosen.insert(groups[static_cast<size_t>(middle_of(i, count, static_cast<int64_t>(groups.size())))]);
  }
  // A role of few blocks can have been met twice at one of them.
  for (size_t g = 0; std::cmp_less(chosen.size(), count); ++g)
    if (!is_head(job, job.groups[g])) chosen.insert(g);
  return {chosen.begin(), chosen.end()};
}

SensitivityJob checking_job(const SensitivityJob& job) {
  SensitivityJob checking = job;
  checking.groups.clear();
  for (const size_t g : job.checked) checking.groups.push_back(job.groups[g]);
  checking.checked.clear();
  checking.tables.clear();
  checking.measure_kl = true;
  checking.estimate = false;
  checking.variants = job.checks;
  const int64_t rows = job.held_out.size(0), count = std::min(rows, kCheckedRows);
  std::vector<int64_t> which;
  checking.held_out_lengths.clear();
  for (int64_t i = 0; i < count; ++i) {
    which.push_back(middle_of(i, count, rows));
    if (!job.held_out_lengths.empty())
      checking.held_out_lengths.push_back(job.held_out_lengths[static_cast<size_t>(which.back())]);
  }
  checking.held_out = job.held_out.index_select(0, at::tensor(which, at::kLong));
  return checking;
}

}  // namespace lathe
