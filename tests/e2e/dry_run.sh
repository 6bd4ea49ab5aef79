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
# Of a GGUF file each matrix's type of blocks, and why where it isn't the mix's: 576 is no multiple of 256.
checkpoint "$scratch/nine" llama "{\"vocab_size\": 4096, \"hidden_size\": 576, \"intermediate_size\": 1536, \"num_hidden_layers\": 2,
  \"num_attention_heads\": 9, \"num_key_value_heads\": 3}"
"$QUANTIZE" --recipe recipes/gguf.yaml --model "$scratch/nine" --output "$scratch/out" --device cpu --dry-run >"$scratch/plan"
grep -q "^types      Q5_0: .*q_proj.*; Q4_K's blocks of 256 don't divide its rows of 576$" "$scratch/plan" || fail "$(cat "$scratch/plan")"
grep -q "^types      Q8_0: .*head (output).*; Q6_K's blocks of 256 don't divide its rows of 576$" "$scratch/plan" || fail "$(cat "$scratch/plan")"
grep -q "^types      .*embeddings (token_embd)" "$scratch/plan" && grep -q "^types      Q6_K: down_proj (block" "$scratch/plan" || fail "$(cat "$scratch/plan")"
"$QUANTIZE" --recipe recipes/gguf.yaml --model "$scratch/nine" --output "$scratch/out" --device cpu --dry-run --json >"$scratch/plan.json"
matches lib/report/plan.schema.json "$scratch/plan.json"
for recipe in hqq smoothquant kv-fp8; do
  "$QUANTIZE" --recipe "recipes/$recipe.yaml" --output "$scratch/out" --device cpu --dry-run --json >"$scratch/of-$recipe.json"
  matches lib/report/plan.schema.json "$scratch/of-$recipe.json"
done
holds "$scratch/plan.json" "len(r['outputs'][0]['tensors']) == 2 * 7 + 2 and {t['linear'] for t in r['outputs'][0]['tensors']} >= {l['name'] for l in r['linears'] if 'rule' in l}"
holds "$scratch/plan.json" "[(t['type'], t['wanted'], t['why']) for t in r['outputs'][0]['tensors'] if t['name'] == 'blk.0.attn_q.weight'] == [('Q5_0', 'Q4_K', 'Q4_K\'s blocks of 256 don\'t divide its rows of 576')]"
holds "$scratch/plan.json" "all('wanted' not in t for t in r['outputs'][0]['tensors'] if t['name'].endswith('ffn_down.weight'))"
# What a budget of such types is likely to choose, too.
"$QUANTIZE" --recipe recipes/mixed-4.25bpw.yaml --output "$scratch/out" --device cpu --dry-run --set output.formats=[gguf:Q4_K_M] \
  --set 'candidates=[{gguf: Q3_K}, {gguf: Q4_K}, {gguf: Q6_K}]' >"$scratch/plan"
grep -q "^stand-in" "$scratch/plan" && grep -q "^types      Q4_K: .*(block" "$scratch/plan" || fail "no types of a stand-in: $(cat "$scratch/plan")"
