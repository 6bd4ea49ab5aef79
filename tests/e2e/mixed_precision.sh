# Sensitivities are measured once, budgets choose mixtures, and the choice is a plain recipe.
. tests/e2e/lib.sh
fast=(--device cpu --quiet --set calibration.samples=12 --set calibration.seq_len=128 --set sensitivity.held_out=2)
sensitivity() { "$QUANTIZE" sensitivity --recipe recipes/sensitivity.yaml "${fast[@]}" "$@"; }
mixed() {
  local output=$1; shift
  "$QUANTIZE" --recipe recipes/mixed-4.25bpw.yaml --output "$output" "${fast[@]}" --set evaluate.rows=4 "$@"
}

sensitivity --output "$scratch/s"
file=$scratch/s/sensitivity.json
holds "$file" "r['schema'] == 1 and len(r['candidates']) == 4 and len(r['groups']) == 24"
holds "$file" "r['data']['held_out_tokens'] == 256"
holds "$file" "all(len(g['losses']) == 4 and all(l['kl'] > 0 and l['output_error'] > 0 for l in g['losses']) for g in r['groups'])"
# Fewer bits lose more, and the cheap measure predicts the measured one.
holds "$file" "all(sum(g['losses'][k]['kl'] for g in r['groups']) > 2 * sum(g['losses'][k + 1]['kl'] for g in r['groups']) for k in range(3))"
holds "$file" "r['rank_correlation']['all']['output_error'] > 0.8"
refuses 2 "exists already; give --overwrite" sensitivity --output "$scratch/s"

# A budget takes the measurements from the file.
mixed "$scratch/m" --set "sensitivity.file=$file"
holds "$scratch/m/budget.json" "4.2 < r['chosen']['bits_per_weight'] <= 4.25 and len(r['groups']) == 24"
holds "$scratch/m/budget.json" "len({g['candidate'] for g in r['groups']}) > 1"
holds "$scratch/m/budget.json" "all(a['bytes'] < b['bytes'] and a['kl'] > b['kl'] for a, b in zip(r['frontier'], r['frontier'][1:]))"
# It is predicted to lose less than every candidate everywhere that is no larger, and has the bytes that were said.
holds "$scratch/m/budget.json" "all(r['chosen']['kl'] < u['kl'] for u in r['uniform'] if u['bytes'] <= r['chosen']['bytes'])"
bytes=$(value "$scratch/m/budget.json" "r['chosen']['bytes']")
stored=$("$QUANTIZE" inspect "$scratch/m" --json | "$PYTHON" -c 'import json,sys; print(sum(t["bytes"] for t in json.load(sys.stdin)["tensors"]))')
((bytes == stored)) || fail "$bytes bytes were promised, $stored are there"

# The choice runs as it is, to the same bytes.
"$QUANTIZE" --recipe "$scratch/m/chosen.yaml" --output "$scratch/again" --device cpu --quiet
cmp "$scratch/m/model.safetensors" "$scratch/again/model.safetensors"
"$QUANTIZE" verify "$scratch/m" --reference "$MODEL" >"$scratch/log" || fail "$(cat "$scratch/log")"

# Other budgets of the same measurements; the frontier is on stdout.
least=$(value "$scratch/m/budget.json" "r['frontier'][0]['bytes']")
"$QUANTIZE" --recipe recipes/mixed-4.25bpw.yaml --output "$scratch/size" --dry-run --set "sensitivity.file=$file" --set "budget={size: $least}" >"$scratch/log"
grep -q "^frontier" "$scratch/log" || fail "no frontier: $(head -5 "$scratch/log")"
grep -q "24 of 24 groups" "$scratch/log" || fail "the least size has one candidate: $(cat "$scratch/log")"
grep -q "^consumer" "$scratch/log" || fail "no plan after the choice: $(cat "$scratch/log")"
kl=$(value "$scratch/m/budget.json" "r['chosen']['kl']")
"$QUANTIZE" --recipe recipes/mixed-4.25bpw.yaml --output "$scratch/kl" --dry-run --set "sensitivity.file=$file" --set "budget={kl: $kl}" >"$scratch/log"
grep -q "chosen" "$scratch/log" || fail "$(cat "$scratch/log")"
# Before anything is measured, a dry run says what could be chosen.
mixed "$scratch/n" --dry-run | grep -q "possible" || fail "a dry run says what is possible"
[[ ! -e $scratch/n.sensitivity.json ]] || fail "a dry run measures nothing"

# A GPU's memory: weights, KV cache and activations within what a server takes of it, as `advise` counts them.
serves='context: 64, batch: 2'
"$QUANTIZE" advise --model "$MODEL" --vram 10MB --context 64 --batch 2 --json >"$scratch/advice.json"
beside=$(value "$scratch/advice.json" "r['activation_bytes'] + r['kv_cache'][0]['bytes']")
((beside > 1000000)) || fail "KV cache and activations take $beside bytes"
middle=$(value "$scratch/m/budget.json" "r['frontier'][len(r['frontier']) // 2]['bytes']")
vram=$(((middle + beside) * 10 / 9 + 2))
mixed "$scratch/gpu" --set "sensitivity.file=$file" --set evaluate=null --set "budget={vram: $vram, $serves}"
holds "$scratch/gpu/budget.json" "r['budget'] == {'vram': $vram, 'context': 64, 'batch': 2} and r['chosen']['bytes'] == $middle"
# The refusal's least is what would do, to the byte.
gpu() { mixed "$scratch/x" --dry-run --set "sensitivity.file=$file" --set "budget={vram: $1, $serves}" "${@:2}"; }
refuses 2 "budget.vram: 2.9 MiB (3000000 bytes) can't be kept: the least possible with these candidates is" gpu 3MB
vram=$(sed 's/.*candidates is [^(]*(\([0-9]*\) bytes.*/\1/' "$scratch/stderr")
refuses 2 "($vram bytes), of which 90 % hold weights" gpu $((vram - 1))
gpu "$vram" --json >"$scratch/plan.json"
holds "$scratch/plan.json" "len({g['candidate'] for g in r['budget']['groups']}) == 1"
# A smaller KV cache leaves more to the weights; what it holds is said of a budget of memory alone.
mixed "$scratch/x" --dry-run --json --set "sensitivity.file=$file" --set "budget={vram: $((vram - 1)), $serves}" --set 'kv_cache={type: float}' >"$scratch/plan.json"
holds "$scratch/plan.json" "r['budget']['budget']['vram'] == $vram - 1"
refuses 2 "budget.context: expected null, for it says what" mixed "$scratch/x" --set 'budget={size: 9MB, context: 64}'
# Before anything is measured, for programs.
mixed "$scratch/n" --dry-run --json --set "budget={vram: 10MB, $serves}" >"$scratch/plan.json"
holds "$scratch/plan.json" "r['groups'] == 24 and r['possible']['least']['bytes'] < r['possible']['most']['bytes']"
refuses 2 "budget.vram" mixed "$scratch/n" --dry-run --set "budget={vram: 3MB, $serves}"

# Budgets that can't be kept say what can.
refuses 2 "the least possible with these candidates is 3." mixed "$scratch/x" --set "sensitivity.file=$file" --set 'budget={bits_per_weight: 2}'
refuses 2 "the least possible with these candidates is $(numfmt --to=iec-i --suffix=B --format=%.1f "$least" | sed 's/\([0-9]\)\([KM]iB\)/\1 \2/')" \
  mixed "$scratch/x" --set "sensitivity.file=$file" --set 'budget={size: 1MB}'
refuses 2 "the least that these candidates lose is" mixed "$scratch/x" --set "sensitivity.file=$file" --set 'budget={kl: 0.0000001}'
refuses 2 "one of bits_per_weight, size, kl and vram" mixed "$scratch/x" --set 'budget={size: 9MB, kl: 1}'
refuses 2 "did you mean 'bits_per_weight'" mixed "$scratch/x" --set 'budget={bits_per_wait: 4}'
refuses 2 "did you mean 'held_out'" mixed "$scratch/x" --set 'sensitivity.hold_out=4'
refuses 2 "nothing chooses among" mixed "$scratch/x" --set budget=null
refuses 2 "no rules beside" mixed "$scratch/x" --set 'rules=[{targets: [linear]}]'
refuses 2 "no transforms beside" mixed "$scratch/x" --set 'transforms=[{awq: {}}]'
refuses 2 "each candidate once" mixed "$scratch/x" --set 'candidates[3].scheme.bits=3'
refuses 2 "no \`candidates\` to measure" "$QUANTIZE" sensitivity --recipe recipes/rtn.yaml --output "$scratch/x"
refuses 2 "would leave none to calibrate with" mixed "$scratch/x" --set sensitivity.held_out=12
# Candidates that the model, the format, or all of its consumers together can't have.
refuses 2 "candidates[1]: model.layers.0.self_attn.q_proj: format compressed-tensors" mixed "$scratch/x" --set 'candidates[1].scheme.group_size=96'
refuses 2 "they can't stand in one model" mixed "$scratch/x" --set output.formats=[awq] --set 'candidates=[{scheme: {bits: 4}}, {scheme: {bits: 4, group_size: 64}}]'
refuses 2 "for format compressed-tensors; expected a \`scheme\`" mixed "$scratch/x" --set 'candidates[0]={gguf: Q4_K}'
refuses 2 "weighed by their bytes in one checkpoint format; found 2" mixed "$scratch/x" --set 'output.formats=[gptq-v2, compressed-tensors]'

# Measurements of another model, of other candidates, or that somebody broke.
copy_model "$scratch/other"
"$PYTHON" - "$scratch/other/model.safetensors" <<'P'
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(200_000)
    bytes_ = file.read(64)
    file.seek(200_000)
    file.write(bytes(b ^ 1 for b in bytes_))
P
refuses 2 "was measured on another model" mixed "$scratch/x" --model "$scratch/other" --set "sensitivity.file=$file"
refuses 2 "was not measured, or with other options of its solver" mixed "$scratch/x" --set "sensitivity.file=$file" --set 'candidates[0].scheme.bits=2'
sed 's/"kl": [0-9.e-]*/"kl": "much"/' "$file" >"$scratch/broken.json"
refuses 2 "broken.json: groups[0].losses[0].kl: expected a finite number" mixed "$scratch/x" --set "sensitivity.file=$scratch/broken.json"
head -c 300 "$file" >"$scratch/broken.json"
refuses 2 "broken.json" mixed "$scratch/x" --set "sensitivity.file=$scratch/broken.json"

# Estimated from gradients alone: a budget can be chosen by that, and one that asks for KL says that there is none.
estimate=$scratch/f/sensitivity.json
sensitivity --output "$scratch/f" --set sensitivity.loss=fisher --set sensitivity.held_out=4
holds "$file" "all(l['fisher'] > 0 for g in r['groups'] for l in g['losses']) and r['rank_correlation']['all']['fisher'] > 0.8"
holds "$estimate" "r['data']['held_out_tokens'] == 512 and all(l['fisher'] > 0 and l['kl'] is None for g in r['groups'] for l in g['losses'])"
holds "$estimate" "r['rank_correlation']['all']['output_error'] is None"
mixed "$scratch/e" --set "sensitivity.file=$estimate"
holds "$scratch/e/budget.json" "4.2 < r['chosen']['bits_per_weight'] <= 4.25"
refuses 2 "has no kl there (sensitivity.loss)" mixed "$scratch/x" --set "sensitivity.file=$estimate" --set sensitivity.loss=kl
refuses 2 "expected kl or fisher" mixed "$scratch/x" --set sensitivity.loss=hessian

# Without a file: measured, and kept beside the output for the next budget.
cut=(--set 'candidates=[{scheme: {bits: 3}}, {scheme: {bits: 8}}]' --set evaluate=null)
mixed "$scratch/new/kept" "${cut[@]}" --set 'budget={bits_per_weight: 5}'
stamp=$(stat -c %Y.%i "$scratch/new/kept.sensitivity.json")
mixed "$scratch/new/kept" "${cut[@]}" --set 'budget={bits_per_weight: 6}' --overwrite
[[ $(stat -c %Y.%i "$scratch/new/kept.sensitivity.json") == "$stamp" ]] || fail "measured twice"

# A limit that the run can't keep is refused before anything is measured.
tight=("${cut[@]}" --set 'budget={bits_per_weight: 5}' --set 'evaluate={text: data/text/evaluation.txt, ctx: 512, rows: 60}' --max-ram 230MiB)
refuses 2 "is chosen: evaluation does not fit" mixed "$scratch/tight" "${tight[@]}"
[[ ! -e $scratch/tight.sensitivity.json ]] || fail "measured for a run that can't be"
