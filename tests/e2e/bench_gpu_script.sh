# tests/bench/gpu.sh: its plan, its refusals and the form of its results. (The whole rehearsal takes minutes:
# tests/bench/gpu.sh --no-gpu, or tests/bench/gpu/bare.sh --no-gpu.)
. tests/e2e/lib.sh
export PYTHON OUT="$scratch/out"
tests/bench/gpu.sh --no-gpu --dry-run >"$scratch/plan"
for text in "GPU: none: --no-gpu was given" "tests labelled gpu" "artefacts, CPU and GPU" "benchmarks" "$OUT/results.json"; do
  grep -qF -- "$text" "$scratch/plan" || fail "the plan lacks '$text': $(cat "$scratch/plan")"
done
[[ -e $OUT ]] && fail "--dry-run wrote something"

status=0
tests/bench/gpu.sh --fast 2>"$scratch/stderr" >/dev/null || status=$?
((status == 2)) && grep -qF -- "unrecognized arguments: --fast" "$scratch/stderr" || fail "exit code $status: $(cat "$scratch/stderr")"
status=0
PATH=/usr/bin:/bin tests/bench/gpu.sh --jobs 0 --no-gpu 2>"$scratch/stderr" >/dev/null || status=$?
((status == 2)) && grep -qF -- "must be positive" "$scratch/stderr" || fail "exit code $status: $(cat "$scratch/stderr")"
if ! command -v nvidia-smi >/dev/null; then
  refuses 2 "gpu.sh: no GPU: nvidia-smi finds none (--no-gpu rehearses on the CPU)" tests/bench/gpu.sh
fi

# Without time every step fails, and the results say so.
status=0
tests/bench/gpu.sh --no-gpu --minutes 0.001 --work "$scratch/work" >/dev/null || status=$?
((status == 1)) || fail "exit code $status of a run without time"
holds "$OUT/results.json" "r['schema'] == 1 and r['machine']['gpu'] == '' and r['machine']['no_gpu'] == '--no-gpu was given'"
holds "$OUT/results.json" "[s['status'] for s in r['steps']] == ['failed'] * 5 and {s['reason'] for s in r['steps']} == {'no time left'}"
grep -qF "| benchmarks | failed | 0 | no time left |" "$OUT/results.md" || fail "results.md: $(cat "$OUT/results.md")"
