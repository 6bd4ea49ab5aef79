# --dry-run prints the plan and writes nothing.
. tests/e2e/lib.sh
quick recipes/awq.yaml "$scratch/out" --dry-run >"$scratch/plan"
grep -q "42 linears, int4 sym g128" "$scratch/plan" || fail "the plan doesn't say what the rule matched: $(cat "$scratch/plan")"
[[ ! -e $scratch/out ]] || fail "a dry run wrote $scratch/out"
