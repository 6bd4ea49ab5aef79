# `report: {activations: true}` describes every input of quantised linears, in report.json and for people, and changes no
# byte of the model; without calibration data it is refused.
. tests/e2e/lib.sh
quick recipes/rtn.yaml "$scratch/plain" >/dev/null
quick recipes/rtn.yaml "$scratch/seen" --set report.activations=true >/dev/null
cmp "$scratch/plain/model.safetensors" "$scratch/seen/model.safetensors"
holds "$scratch/plain/report.json" "r['activations'] == []"
report=$scratch/seen/report.json
holds "$report" "len(r['activations']) == 4 * r['model']['blocks']"
holds "$report" "{a['input'] for a in r['activations']} == {'attention_in', 'attention_out', 'mlp_in', 'mlp_mid'}"
holds "$report" "all(a['tokens'] == 8 * 256 and a['width'] > 0 for a in r['activations'])"
holds "$report" "all(0 < a['mean_abs'] < a['token_abs_max'] <= a['abs_max'] for a in r['activations'])"
holds "$report" "all(a['abs_p9999'] <= a['abs_max'] * 1.001 and a['abs_max_mean'] <= a['abs_max'] for a in r['activations'])"
holds "$report" "all(abs(a['abs_max'] / a['token_abs_max'] - a['token_spread']) < 1e-3 * a['token_spread'] for a in r['activations'])"
holds "$report" "all(a['kurtosis'] >= 1 and a['channel_spread'] >= 1 and 0 <= a['outlier_share'] <= 1 for a in r['activations'])"
grep -q '^## Inputs of quantised linears' "$scratch/seen/report.md" || fail "report.md has no table of inputs"
grep -q '^| activations | .*outlier channels in [0-9]* of' "$scratch/seen/report.md" || fail "report.md has no summary of inputs"
quick recipes/rtn.yaml "$scratch/none" --set report.activations=true --dry-run | grep -q '^report ' || fail "the plan does not say so"
refuses 2 "report.activations works on activations" quick recipes/rtn.yaml "$scratch/none" --set calibration=null \
  --set evaluate=null --set report.activations=true
