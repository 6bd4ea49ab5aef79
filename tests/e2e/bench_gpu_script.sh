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
holds "$OUT/results.json" "len(r['steps']) == 9 and {(s['status'], s['reason']) for s in r['steps']} == {('failed', 'no time left')}"
grep -qF "| benchmarks | failed | 0 | no time left |" "$OUT/results.md" || fail "results.md: $(cat "$OUT/results.md")"

# What the tests labelled gpu come to, and which they are: suites that need a GPU and no others, which would skip where there is one.
status=0
"$PYTHON" - "$(dirname "$(dirname "$QUANTIZE")")" <<'CHECK' || status=$?
import pathlib, subprocess, sys
sys.path.insert(0, "tests/bench/gpu")
import gpu_tests
from steps import Failed

class Log:
    def __init__(self, text): self.text = text
    def read_text(self, errors): return self.text
skip = r"\[  SKIPPED \]"
for code, text, expected in [(0, "[  PASSED  ] 2 tests.", "passed"), (0, "[  SKIPPED ] A.b", "skipped"), (77, "SKIP: no GPU", "skipped"),
                             (1, "[  SKIPPED ] A.b\n[  FAILED  ] A.c", "failed"), (-11, "[  SKIPPED ] A.b", "failed"),
                             (0, "[==========] Running 0 tests from 0 test suites.", "failed")]:
    found = gpu_tests.outcome({"skip_code": 77, "skip_pattern": skip}, code, Log(text))
    assert found == expected, (code, text, found)
build = pathlib.Path(sys.argv[1])
try:
    tests = gpu_tests.of_build(pathlib.Path.cwd(), build)
except Failed as reason:
    print(f"SKIP: {reason}")
    sys.exit(77)
assert tests, "ctest lists no test with the label gpu"
for test in tests:
    program = pathlib.Path(test["command"][0].replace("@BUILD@", str(build)))
    if not program.name.startswith("unit_"):
        continue
    shown = subprocess.run([program, *test["command"][1:], "--gtest_list_tests"], check=True, capture_output=True, text=True).stdout
    suites = [line.split(".")[0] for line in shown.splitlines() if line and not line.startswith((" ", "Running"))]
    assert suites and all(suite.endswith("Gpu") for suite in suites), (test["name"], suites)
CHECK
((status == 0 || status == 77)) || fail "tests labelled gpu"
exit $status
