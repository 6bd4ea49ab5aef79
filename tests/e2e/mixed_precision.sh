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
# Of every linear, too: in sum what its group has.
"$PYTHON" - "$file" "$MODEL/config.json" <<'P'
import json, math, sys
r, config = (json.load(open(f)) for f in sys.argv[1:])
head = config["hidden_size"] // config["num_attention_heads"]
out = {"q_proj": head * config["num_attention_heads"], "k_proj": head * config["num_key_value_heads"], "gate_proj": config["intermediate_size"]}
out["v_proj"], out["up_proj"] = out["k_proj"], out["gate_proj"]
for group in r["groups"]:
    rows = [out.get(name.split(".")[-1], config["hidden_size"]) for name in group["linears"]]
    for loss in group["losses"]:
        linears = loss["linears"]
        assert len(linears) == len(rows) and all(l["output_relative_error"] > 0 for l in linears)
        assert math.isclose(sum(l["output_error"] for l in linears), loss["output_error"], rel_tol=1e-9)
        # Roots of the estimates are lengths, of linears' errors and of their sum.
        lengths = [math.sqrt(l["fisher"]) for l in linears]
        assert all(lengths) and max(lengths) - sum(lengths) + max(lengths) <= math.sqrt(loss["fisher"]) * (1 + 1e-6), (lengths, loss)
        assert math.sqrt(loss["fisher"]) <= sum(lengths) * (1 + 1e-6), (lengths, loss)
        mean = sum(n * l["weight_mse"] for n, l in zip(rows, linears)) / sum(rows)
        assert math.isclose(mean, loss["weight_mse"], rel_tol=1e-9)
P
# For people, too.
[[ $(ls "$scratch/s") == $'sensitivity.html\nsensitivity.json\nsensitivity.md' ]] || fail "written: $(ls "$scratch/s")"
(($(grep -c '^| model.layers.* int[3456] asym' "$scratch/s/sensitivity.md") == 96)) || fail "sensitivity.md hasn't each group and candidate"
rho=$(value "$file" "'{:.4g}'.format(r['rank_correlation']['all']['fisher'])")
grep -q "^| all | 96 |.* $rho |$" "$scratch/s/sensitivity.md" || fail "sensitivity.md hasn't the correlations: $(grep '| all' "$scratch/s/sensitivity.md")"
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

# What each group would lose, and how far that can be believed: in the page and the summary, too.
holds "$scratch/m/budget.json" "all(len(g['losses']) == 4 and min(g['losses']) > 0 for g in r['groups'])"
holds "$scratch/m/budget.json" "abs(sum(g['losses'][r['candidates'].index(g['candidate'])] for g in r['groups']) / r['chosen']['kl'] - 1) < 1e-3"
holds "$scratch/m/budget.json" "r['measured']['loss'] == 'fisher' and r['measured']['held_out_tokens'] == 256 and r['measured']['rank_correlation']['fisher'] > 0.9"
grep -q 'mixture.*on 256 tokens held out).*on the evaluation.*rank correlation.*fisher 0\.9' "$scratch/m/report.md" || fail "the report doesn't say how far the mixture can be believed"

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
"$QUANTIZE" --recipe recipes/mixed-4.25bpw.yaml --output "$scratch/size" --dry-run --quiet --set "sensitivity.file=$file" --set "budget={size: $least}" >"$scratch/quiet"
grep -q "^frontier" "$scratch/quiet" || fail "--quiet leaves the frontier out of a plan: $(head -5 "$scratch/quiet")"
# Measured anew, and by other threads, to the same bytes.
sensitivity --output "$scratch/s-again" --threads 2
cmp "$file" "$scratch/s-again/sensitivity.json"
kl=$(value "$scratch/m/budget.json" "r['chosen']['kl']")
"$QUANTIZE" --recipe recipes/mixed-4.25bpw.yaml --output "$scratch/kl" --dry-run --set "sensitivity.file=$file" --set "budget={kl: $kl}" >"$scratch/log"
grep -q "chosen" "$scratch/log" || fail "$(cat "$scratch/log")"
# Before anything is measured, a dry run says what could be chosen, what the budget leaves, what measuring takes, and all that it says
# of any run: of a mixture within the budget that stands in for the one to come.
mixed "$scratch/n" --dry-run >"$scratch/log"
for line in "possible   3" "budget     4.25 bits/weight: .* for all tensors, .* beyond the least possible" "stand-in   4.2" "kept       lm_head" \
  "fused      q_proj" "consumer   vLLM" "measuring  at most" "memory     at most" "evaluation at most" "samples    12 of"; do
  grep -q "^$line" "$scratch/log" || fail "no '$line' before anything is measured: $(cat "$scratch/log")"
done
for stage in "sensitivity: held-out text" "sensitivity: forward" "forward" "solver gptq" "evaluate"; do
  grep -q " s  $stage$" "$scratch/log" || fail "no stage '$stage': $(cat "$scratch/log")"
done
mixed "$scratch/n" --dry-run --json >"$scratch/n.json"
matches lib/report/plan.schema.json "$scratch/n.json"
holds "$scratch/n.json" "r['budget']['stand_in']['bytes'] <= r['budget']['bytes'] and r['budget']['budget'] == {'bits_per_weight': 4.25}"
holds "$scratch/n.json" "r['outputs'][0]['bytes'] == r['budget']['stand_in']['bytes'] and r['measuring']['memory']['ram'] > 0"
holds "$scratch/n.json" "abs(r['work']['seconds'] - sum(s['seconds'] for s in r['work']['stages'])) < 1e-6"
holds "$scratch/n.json" "abs(sum(s['flops'] for s in r['work']['stages'] if s['name'].startswith('sensitivity: ')) / r['measuring']['work']['flops'] - 1) < 1e-9"
# Under limits that measuring can't keep, all but memory and time, above the refusal; the run that follows keeps them, too, or is refused.
refuses 2 "the smallest limit that would do is --max-ram" mixed "$scratch/n" --dry-run --max-ram 20MB
grep -q "^stand-in" "$scratch/stdout" && grep -q "^consumer" "$scratch/stdout" || fail "a refused plan isn't printed: $(cat "$scratch/stdout")"
grep -q "^measuring\|^work" "$scratch/stdout" && fail "a refused plan speaks of what it would take: $(cat "$scratch/stdout")"
# How many bytes a budget of loss takes, measuring alone tells: its stand-in is the largest.
mixed "$scratch/n" --dry-run --json --set 'budget={kl: 0.02}' >"$scratch/n.json"
holds "$scratch/n.json" "r['budget']['bytes'] is None and r['budget']['stand_in'] == r['budget']['possible']['most']"
sensitivity --output "$scratch/n" --dry-run --json >"$scratch/n.json"
holds "$scratch/n.json" "r['groups'] == 24 and r['variants'] == 96 and r['work']['seconds'] > 0 and r['memory']['ram'] > 0"
holds "$scratch/n.json" "[s['name'] for s in r['work']['stages']][:3] == ['forward', 'statistics', 'trial ' + r['candidates'][0]]"
[[ ! -e $scratch/n ]] || fail "a dry run of measuring wrote a folder"
refuses 2 "the smallest limit that would do is --max-ram" sensitivity --output "$scratch/n" --dry-run --max-ram 20MB
grep -q "^possible" "$scratch/stdout" || fail "a refused plan isn't printed: $(cat "$scratch/stdout")"
refuses 2 "--json: is of a plan" sensitivity --output "$scratch/n" --json
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
# A cache of 2 bits whose window is longer than the context is one of 16.
refuses 2 "x 64 tokens, 16 bits)" gpu $((vram - 1)) --set 'kv_cache={type: kivi, bits: 2}'
# A smaller KV cache leaves more to the weights; what it holds is said of a budget of memory alone.
mixed "$scratch/x" --dry-run --json --set "sensitivity.file=$file" --set "budget={vram: $((vram - 1)), $serves}" --set 'kv_cache={type: float}' >"$scratch/plan.json"
holds "$scratch/plan.json" "r['budget']['budget']['vram'] == $vram - 1"
refuses 2 "budget.context: expected null, for it says what" mixed "$scratch/x" --set 'budget={size: 9MB, context: 64}'
# Before anything is measured, for programs.
mixed "$scratch/n" --dry-run --json --set "budget={vram: 10MB, $serves}" >"$scratch/plan.json"
holds "$scratch/plan.json" "r['budget']['groups'] == 24 and r['budget']['possible']['least']['bytes'] < r['budget']['possible']['most']['bytes']"
# A GPU's memory less KV cache and activations, of which a server takes 90 %.
holds "$scratch/plan.json" "r['budget']['bytes'] == 9000000 - $beside"
refuses 2 "budget.vram" mixed "$scratch/n" --dry-run --set "budget={vram: 3MB, $serves}"

# Linears may stay as they are: they lose nothing, have 16 bits, and stand in `ignore` of what was chosen.
mixed "$scratch/left" --set "sensitivity.file=$scratch/left.json" --set 'candidates=[{scheme: {bits: 4}}, {scheme: {type: float}}]' --set 'budget={bits_per_weight: 6}'
holds "$scratch/left/budget.json" "r['candidates'][1] == 'left in floating point' and {g['candidate'] for g in r['groups']} == set(r['candidates'])"
holds "$scratch/left/budget.json" "all(g['losses'][1] < 1e-9 < g['losses'][0] for g in r['groups']) and abs(r['uniform'][1]['bits_per_weight'] - 16) < 1e-9"
"$QUANTIZE" inspect "$scratch/left" --json >"$scratch/inspected.json"
[[ $(value "$scratch/left/budget.json" "r['chosen']['bytes']") == $(value "$scratch/inspected.json" "sum(t['bytes'] for t in r['tensors'])") ]] || fail "bytes of what is left"
"$QUANTIZE" --recipe "$scratch/left/chosen.yaml" --output "$scratch/left-again" --device cpu --quiet
cmp "$scratch/left/model.safetensors" "$scratch/left-again/model.safetensors"

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
mixed "$scratch/n" --dry-run --set 'candidates[*].scheme.group_size=64' >"$scratch/log"
grep -q '^candidates.*int3 asym g64.*int6 asym g64' "$scratch/log" && ! grep -q g128 "$scratch/log" || fail "--set of every candidate: $(cat "$scratch/log")"
refuses 2 "would leave none to calibrate with" mixed "$scratch/x" --set sensitivity.held_out=12
# What is refused before it measures leaves no folder, not of its parents either.
refuses 2 "would leave none to calibrate with" sensitivity --output "$scratch/none/s" --set sensitivity.held_out=12
refuses 2 "the smallest limit that would do is --max-ram" sensitivity --output "$scratch/none/s" --max-ram 20MB
refuses 2 "would leave none to calibrate with" mixed "$scratch/none/m" --set "sensitivity.file=$scratch/none/file/s.json" --set sensitivity.held_out=12
[[ ! -e $scratch/none ]] || fail "a refused measurement left $(find "$scratch/none")"
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
sed 's/"kl": [0-9.e-][0-9.e-]*/"kl": "much"/' "$file" >"$scratch/broken.json"
refuses 2 "broken.json: groups[0].losses[0].kl: expected a finite number" mixed "$scratch/x" --set "sensitivity.file=$scratch/broken.json"
sed 's/"\(kl\|fisher\)": [0-9.e-][0-9.e-]*/"\1": 1.7e308/' "$file" >"$scratch/broken.json"
for loss in kl fisher; do
  refuses 2 "broken.json: the groups' largest $loss adds up to infinity; expected a finite sum" mixed "$scratch/x" --set "sensitivity.file=$scratch/broken.json" \
    --set sensitivity.loss=$loss
done
# Of linears all or, as older versions had it, none.
change() { "$PYTHON" -c 'import json,sys; r=json.load(open(sys.argv[1])); exec(sys.argv[3]); json.dump(r, open(sys.argv[2], "w"))' "$file" "$@"; }
change "$scratch/broken.json" 'r["groups"][0]["losses"][1]["linears"].pop()'
refuses 2 "broken.json: groups[0].losses[1].linears: expected a list of 3, one for each linear of the group" mixed "$scratch/x" --set "sensitivity.file=$scratch/broken.json"
change "$scratch/broken.json" 'r["groups"][0]["losses"][0]["linears"][2]["weight_mse"] = -1'
refuses 2 "broken.json: groups[0].losses[0].linears[2].weight_mse: expected a finite number" mixed "$scratch/x" --set "sensitivity.file=$scratch/broken.json"
change "$scratch/broken.json" 'r["groups"][0]["losses"][0]["linears"][1]["kl"] = "much"'
refuses 2 "broken.json: groups[0].losses[0].linears[1].kl: expected a finite number" mixed "$scratch/x" --set "sensitivity.file=$scratch/broken.json"
for data in '5' '[]'; do
  change "$scratch/broken.json" "r['data'] = $data"
  refuses 2 "broken.json: data: expected an object, found '$data'" mixed "$scratch/x" --set "sensitivity.file=$scratch/broken.json"
done
change "$scratch/broken.json" 'r["data"]["held_out_tokens"] = {"a": 1}'
refuses 2 "broken.json: data.held_out_tokens: expected a whole number or null" mixed "$scratch/x" --set "sensitivity.file=$scratch/broken.json"
change "$scratch/older.json" '[l.pop("linears") for g in r["groups"] for l in g["losses"]]'
mixed "$scratch/older" --dry-run --set "sensitivity.file=$scratch/older.json" >"$scratch/log"
grep -q '^rule 0 ' "$scratch/log" || fail "an older version's measurements are refused: $(cat "$scratch/log")"
head -c 300 "$file" >"$scratch/broken.json"
refuses 2 "broken.json" mixed "$scratch/x" --set "sensitivity.file=$scratch/broken.json"

# Estimated from gradients alone: a budget can be chosen by that, and one that asks for KL says that there is none.
estimate=$scratch/f/sensitivity.json
sensitivity --output "$scratch/f" --set sensitivity.loss=fisher --set sensitivity.held_out=4
holds "$file" "all(l['fisher'] > 0 for g in r['groups'] for l in g['losses']) and r['rank_correlation']['all']['fisher'] > 0.8"
holds "$estimate" "r['data']['held_out_tokens'] == 512 and all(l['fisher'] > 0 for g in r['groups'] for l in g['losses'])"
# KL of 8 groups checks it: two of each role, at all depths.
"$PYTHON" - "$estimate" <<'P'
import collections, json, sys
r = json.load(open(sys.argv[1]))
checked = [g for g in r["groups"] if any(l["kl"] is not None for l in g["losses"])]
assert len(checked) == 8 and all(l["kl"] > 0 for g in checked for l in g["losses"])
assert set(collections.Counter(g["linears"][0].split(".")[-1] for g in checked).values()) == {2}
assert len({g["linears"][0].split(".")[2] for g in checked}) == 6
ranks = r["rank_correlation"]
assert r["data"]["checked_tokens"] == 512 and ranks["pairs"] == {"all": 32, "by_candidate": [8] * 4}
assert ranks["all"]["fisher"] > 0.9 and ranks["all"]["output_error"] > 0.6, ranks
P
sensitivity --output "$scratch/f0" --set sensitivity.loss=fisher --set sensitivity.held_out=4 --set sensitivity.checked=0
holds "$scratch/f0/sensitivity.json" "all(l['kl'] is None for g in r['groups'] for l in g['losses']) and r['data']['checked_tokens'] is None"
holds "$scratch/f0/sensitivity.json" "r['rank_correlation']['all']['fisher'] is None and r['rank_correlation']['pairs']['all'] == 0"
"$PYTHON" - "$estimate" "$scratch/f0/sensitivity.json" <<'P'
import json, sys
a, b = ([[l["fisher"] for l in g["losses"]] for g in json.load(open(f))["groups"]] for f in sys.argv[1:])
assert a == b, "what checks the estimate changes it"
P
# Its work is in the plan: forward products and logits of 32 variants.
for checked in 0 8; do
  sensitivity --output "$scratch/x" --dry-run --json --set sensitivity.loss=fisher --set sensitivity.held_out=4 --set "sensitivity.checked=$checked" >"$scratch/plan$checked.json"
done
flops() { value "$1" "[s['flops'] for s in r['work']['stages'] if s['name'] == 'held-out text'][0]"; }
"$PYTHON" -c 'import sys; a, b = map(float, sys.argv[1:]); sys.exit(not 1.5 * a < b < 8 * a)' "$(flops "$scratch/plan0.json")" "$(flops "$scratch/plan8.json")" ||
  fail "the plan doesn't count what checks the estimate"
mixed "$scratch/e" --set "sensitivity.file=$estimate"
holds "$scratch/e/budget.json" "r['measured']['pairs'] == 32 and r['measured']['rank_correlation']['fisher'] > 0.9"
holds "$scratch/e/report.json" "r['sensitivity']['checked_tokens'] == 512 and len(r['sensitivity']['groups']) == 24"
grep -q 'mixture.*estimated from gradients on 512 tokens.*fisher 0\.9.*(32 pairs)' "$scratch/e/report.md" || fail "the check isn't told: $(grep mixture "$scratch/e/report.md")"
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
tight=("${cut[@]}" --set 'budget={bits_per_weight: 5}' --set 'evaluate={text: data/text/evaluation.txt, ctx: 512, rows: 60}' --max-ram 214MiB)
refuses 2 "is chosen: evaluation does not fit" mixed "$scratch/tight" "${tight[@]}"
[[ ! -e $scratch/tight.sensitivity.json ]] || fail "measured for a run that can't be"
