# --dry-run prints the plan and writes nothing.
. tests/e2e/lib.sh
quick recipes/awq.yaml "$scratch/out" --dry-run >"$scratch/plan"
grep -q "42 linears, int4 asym g128" "$scratch/plan" || fail "the plan doesn't say what the rule matched: $(cat "$scratch/plan")"
grep -q "^fused      q_proj, k_proj, v_proj; gate_proj, up_proj (blocks 0 to 5)" "$scratch/plan" || fail "no fused linears: $(cat "$scratch/plan")"
grep -q "^folds      input_layernorm -> q_proj, k_proj, v_proj; v_proj -> o_proj; .*up_proj -> down_proj (blocks 0 to 5)" "$scratch/plan" ||
  fail "no folds: $(cat "$scratch/plan")"
grep -q "^evaluation at most" "$scratch/plan" || fail "the plan doesn't say what the evaluation takes: $(cat "$scratch/plan")"
# Scoring needs more than this calibration: a limit between the two is refused before anything is computed.
refuses 2 "calibration does not fit" quick recipes/awq.yaml "$scratch/out" --dry-run --max-ram 20MB --set evaluate=null
limit=$(grep -oE -- '--max-ram [0-9]+MiB' "$scratch/stderr" | grep -oE '[0-9]+')
refuses 2 "evaluation does not fit" quick recipes/awq.yaml "$scratch/out" --dry-run --max-ram ${limit}MiB
# What doesn't hang on the memory is said all the same, and nothing of what does.
grep -q "^consumer" "$scratch/stdout" || fail "a refused plan isn't printed: $(cat "$scratch/stdout")"
grep -q "^memory\|^work" "$scratch/stdout" && fail "a refused plan speaks of the memory that it would take: $(cat "$scratch/stdout")"
refuses 2 "evaluation does not fit" quick recipes/awq.yaml "$scratch/out" --dry-run --json --max-ram ${limit}MiB
holds "$scratch/stdout" "r['memory'] is None and r['work'] is None and r['calibration']['samples'] and len(r['linears']) == 43"
refuses 2 "evaluation does not fit" quick recipes/awq.yaml "$scratch/out" --max-ram ${limit}MiB
quick recipes/awq.yaml "$scratch/out" --dry-run --max-ram ${limit}MiB --set evaluate=null >/dev/null
# A limit on a GPU's memory says nothing of a run on the CPU: a recipe that has one runs there, and is told so.
for flags in "--max-vram 8GB" "--set limits.vram=8GB"; do
  quick recipes/awq.yaml "$scratch/out" --dry-run $flags >"$scratch/plan"
  grep -q "^warning    --max-vram (limits.vram) limits nothing: the run is on the CPU" "$scratch/plan" ||
    fail "a GPU's limit on the CPU goes without a word: $(cat "$scratch/plan")"
done
"$QUANTIZE" eval --model "$MODEL" --text data/text/evaluation.txt --ctx 64 --rows 1 --device cpu --max-vram 8GB >"$scratch/stdout" 2>"$scratch/stderr"
grep -q "^warning: --max-vram" "$scratch/stderr" || fail "eval takes a GPU's limit without a word: $(cat "$scratch/stderr")"
[[ ! -e $scratch/out ]] || fail "a dry run wrote $scratch/out"
