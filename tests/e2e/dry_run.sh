# --dry-run prints the plan and writes nothing.
. tests/e2e/lib.sh
quick recipes/awq.yaml "$scratch/out" --dry-run >"$scratch/plan"
grep -q "42 linears, int4 sym g128" "$scratch/plan" || fail "the plan doesn't say what the rule matched: $(cat "$scratch/plan")"
grep -q "^evaluation at most" "$scratch/plan" || fail "the plan doesn't say what the evaluation takes: $(cat "$scratch/plan")"
# Scoring needs more than this calibration: a limit between the two is refused before anything is computed.
limit=$(sed -n 's/^memory     at most \([0-9]*\).* MiB.*/\1/p' "$scratch/plan")
refuses 2 "evaluation does not fit" quick recipes/awq.yaml "$scratch/out" --dry-run --max-ram $((limit + 8))MiB
refuses 2 "evaluation does not fit" quick recipes/awq.yaml "$scratch/out" --max-ram $((limit + 8))MiB
quick recipes/awq.yaml "$scratch/out" --dry-run --max-ram $((limit + 8))MiB --set evaluate=null >/dev/null
[[ ! -e $scratch/out ]] || fail "a dry run wrote $scratch/out"
