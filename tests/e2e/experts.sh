# Mixtures of experts, spelt out or stacked in one tensor, with an expert that no token reaches: the artefact holds every
# expert, and the report says who took the fall-back.
. tests/e2e/lib.sh
"$PYTHON" -c 'import transformers' 2>/dev/null || skip "needs transformers to make a checkpoint"
vocab=$(value "$MODEL/config.json" "r['vocab_size']")

# make FAMILY NAME [flags...]: a checkpoint of 5 experts, the last of them idle.
make() {
  local family=$1 name=$2; shift 2
  "$PYTHON" tests/tools/make_checkpoint.py "$scratch/$name" --family "$family" --tokenizer "$MODEL" --idle-expert "$@" \
    >/dev/null 2>&1 || fail "no checkpoint of $family"
}
small=("${symmetric[@]}" --set 'rules[0].scheme.group_size=16' --set calibration.seq_len=64 --set calibration.samples=16 --set evaluate.ctx=64
       --set evaluate.rows=8)

make mixtral mixtral --stacked-experts --config "{\"vocab_size\": $vocab, \"num_local_experts\": 5, \"intermediate_size\": 48}"
quick recipes/rtn.yaml "$scratch/rtn" --model "$scratch/mixtral" "${small[@]}"
holds "$scratch/rtn/report.json" "len(r['linears']) == 3 * (4 + 5 * 3)"
holds "$scratch/rtn/report.json" "all(len(b['tokens']) == 5 and sum(b['tokens']) == 2 * 16 * 64 and b['tokens'][4] == 0 for b in r['experts'])"
holds "$scratch/rtn/report.json" "all('all tokens' in l['events'][0] for l in r['linears'] if 'experts.4.' in l['name'])"
holds "$scratch/rtn/report.json" "sum('block_sparse_moe.gate' in k['name'] for k in r['kept']) == 3"
"$QUANTIZE" inspect "$scratch/rtn" --json >"$scratch/inspect.json"
holds "$scratch/inspect.json" "r['supported'] and r['schemes'][0]['linears'] == 57"
holds "$scratch/inspect.json" "not any(t['name'].endswith('experts.gate_up_proj') for t in r['tensors'])"
holds "$scratch/inspect.json" "sum('experts.4.w2.weight_packed' in t['name'] for t in r['tensors']) == 3"

make qwen2_moe qwen --config "{\"vocab_size\": $vocab, \"num_experts\": 5}"
quick recipes/awq.yaml "$scratch/awq" --model "$scratch/qwen" "${small[@]}" --set calibration.experts.min_tokens=100 \
  --set calibration.experts.fallback=weight_only
holds "$scratch/awq/report.json" "any(f['applied'] and f['slot'] == 'mlp_in' for f in r['folds'])"
holds "$scratch/awq/report.json" "any(f['applied'] and f['slot'] == 'mlp_mid of expert 0' for f in r['folds'])"
holds "$scratch/awq/report.json" "all('weight-only' in l['events'][-1] for l in r['linears'] if 'experts.4.' in l['name'])"
holds "$scratch/awq/report.json" "all(b['below_floor'] == sum(t < 100 for t in b['tokens']) for b in r['experts'])"
holds "$scratch/awq/report.json" "0 < r['evaluation']['kl_mean'] < 1"
grep -q 'took the fall-back' "$scratch/awq/report.md" || fail "report.md does not speak of experts"

# A recipe may quantise experts and nothing else; half of the experts is refused, since consumers stack them.
"$QUANTIZE" --recipe recipes/rtn.yaml --model "$scratch/qwen" --output "$scratch/none" --dry-run --set 'rules[0].targets=[expert]' \
  "${symmetric[@]}" --set 'rules[0].scheme.group_size=16' >"$scratch/plan"
grep -q 'expert -> 45 linears' "$scratch/plan" || fail "45 linears of experts expected: $(cat "$scratch/plan")"
refuses 2 'the experts of a block' "$QUANTIZE" --recipe recipes/rtn.yaml --model "$scratch/qwen" --output "$scratch/none" \
  "${symmetric[@]}" --set 'rules[0].scheme.group_size=16' --set 'ignore=[lm_head, "/experts.0/"]'

# What happens to rarely chosen experts is said beforehand, and so is what a consumer would not load.
plan() { "$QUANTIZE" --recipe recipes/rtn.yaml --model "$scratch/qwen" --output "$scratch/none" --dry-run --set 'rules[0].scheme.group_size=16' "${symmetric[@]}" "$@"; }
plan --set calibration.experts.min_tokens=33 >"$scratch/plan"
grep -q '^experts    5 in each of 3 blocks, 2 for a token; one that fewer than 33 tokens reach is measured on all tokens' "$scratch/plan" ||
  fail "the plan does not speak of experts: $(cat "$scratch/plan")"
# Weight-only statistics have no ranges: refused before a token is read where the experts' inputs need one, no obstacle to a
# transform that looks at ranges, which leaves such an expert alone.
refuses 2 'calibration.experts.fallback weight_only' "$QUANTIZE" --recipe recipes/fp8-static.yaml --model "$scratch/qwen" \
  --output "$scratch/none" --dry-run --set output.formats=[modelopt] --set calibration.experts.fallback=weight_only
quick recipes/smoothquant.yaml "$scratch/smooth" --model "$scratch/qwen" --set calibration.experts.fallback=weight_only \
  --set calibration.seq_len=64 --set calibration.samples=16 --set evaluate=null
holds "$scratch/smooth/report.json" "all('weight-only' in l['events'][-1] for l in r['linears'] if 'experts.4.' in l['name'])"
refuses 2 'zero points of experts' plan --set 'rules[0].scheme.symmetric=false'
plan --set 'ignore=[lm_head, expert]' >"$scratch/plan"
grep -q '^warning    experts stay in floating point' "$scratch/plan" || fail "no warning: $(cat "$scratch/plan")"
