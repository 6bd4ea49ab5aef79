#!/usr/bin/env bash
# Runs every fuzz target for MINUTES of CPU (30 by default), one after the other, with the seeds of the repository and what earlier
# runs found worth keeping (BUILD/fuzz/<target>). A finding's input is left in BUILD/fuzz/findings, and ends with exit code 1.
#
#   tests/fuzz/run.sh BUILD [target...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=${1:?build folder}; shift
seconds=$((${MINUTES:-30} * 60))
findings=$build/fuzz/findings
mkdir -p "$findings"
[[ -x $build/bin/fuzz_index ]] || { echo "fuzz: no libFuzzer in this build (Debian: libclang-rt-14-dev, then configure again)" >&2; exit 2; }

failed=0
while read -r target seeds; do
  (($#)) && [[ " $* " != *" $target "* ]] && continue
  kept=$build/fuzz/$target
  mkdir -p "$kept"
  log=$build/fuzz/$target.log
  # libFuzzer counts the wall's clock, which beside other work isn't CPU time: it is started again until that much CPU is spent.
  # An input of some KiB has no use for memory like that: it would be what a length in the file says.
  : >"$log"
  spent=0 inputs=0 found=
  while ((spent < seconds)) && [[ -z $found ]]; do
    # shellcheck disable=SC2086 # several folders
    used=$({ TIMEFORMAT='%U %S'; time OMP_NUM_THREADS=1 ASAN_OPTIONS=quarantine_size_mb=8 "$build/bin/fuzz_$target" \
      -max_total_time=$((seconds - spent)) -timeout=60 -rss_limit_mb=2048 -malloc_limit_mb=256 -max_len=16384 -print_final_stats=1 \
      -artifact_prefix="$findings/$target-" "$kept" $seeds >"$log" 2>&1; } 2>&1) || found=1
    spent=$(awk -v spent="$spent" '{ print int(spent + $1 + $2 + 1) }' <<<"$used")
    inputs=$((inputs + $(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | grep . || echo 0)))
  done
  if [[ -z $found ]]; then
    echo "$target: $inputs inputs in $((spent / 60)) minutes of CPU, no finding"
  else
    echo "$target: a finding: $(grep -m1 -E 'ERROR|terminate|runtime error|SUMMARY' "$log" || tail -1 "$log") (log: $log)"
    failed=1
  fi
done <"$build/fuzz_targets.txt"
exit "$failed"
