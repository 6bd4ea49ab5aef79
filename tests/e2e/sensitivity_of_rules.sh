# `sensitivity` beside rules measures each group under its own rule, and changes no byte of the model.
. tests/e2e/lib.sh
rules=(--set "rules=[{targets: [attention], scheme: {bits: 4}}, {targets: ['/layers\\.[01]\\./'], scheme: {bits: 8}}, {targets: [up_proj, gate_proj], scheme: {bits: 3}}]")
run() { local output=$1; shift; quick recipes/rtn.yaml "$output" "${rules[@]}" --set evaluate=null "$@"; }
run "$scratch/plain"
run "$scratch/measured" --set 'sensitivity={held_out: 2}'
cmp "$scratch/plain/model.safetensors" "$scratch/measured/model.safetensors"
file=$scratch/measured.sensitivity.json
holds "$file" "len(r['candidates']) == 3 and [c['scheme']['bits'] for c in r['candidates']] == [4, 8, 3]"
# Two blocks with four groups, four without down_proj, which no rule quantises.
holds "$file" "len(r['groups']) == 2 * 4 + 4 * 3 and all(len(g['losses']) == 1 for g in r['groups'])"
holds "$file" "all(g['losses'][0]['candidate'] == (0 if 'self_attn' in g['linears'][0] else 1 if '.layers.0.' in g['linears'][0] or '.layers.1.' in g['linears'][0] else 2) for g in r['groups'])"
holds "$file" "all(g['losses'][0]['kl'] > 0 and g['losses'][0]['output_error'] > 0 for g in r['groups'])"
holds "$file" "min(g['losses'][0]['weight_relative_mse'] for g in r['groups'] if g['losses'][0]['candidate'] == 2) > 100 * max(g['losses'][0]['weight_relative_mse'] for g in r['groups'] if g['losses'][0]['candidate'] == 1)"
holds "$scratch/measured/report.json" "r['recipe']['sensitivity'] == {'file': None, 'held_out': 2, 'loss': 'kl'}"
# Measured once; of other rules it is refused, not used.
stamp=$(stat -c %Y.%i "$file")
run "$scratch/measured" --set 'sensitivity={held_out: 2}' --overwrite
[[ $(stat -c %Y.%i "$file") == "$stamp" ]] || fail "measured twice"
refuses 2 "was not measured" run "$scratch/measured" --set "sensitivity={held_out: 2}" --set 'rules[0].scheme.bits=5' --overwrite
run "$scratch/dry" --set 'sensitivity={}' --dry-run | grep -q "^measure .* by its rule" || fail "the plan doesn't say so"
[[ ! -e $scratch/dry.sensitivity.json ]] || fail "a dry run measures"
refuses 2 "rounds by itself" run "$scratch/x" --set 'sensitivity={}' --set 'output.formats=[gguf:Q4_0]'
refuses 2 "candidates are measured on activations" run "$scratch/x" --set 'sensitivity={}' --set calibration=null
