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
holds "$scratch/measured/report.json" "r['recipe']['sensitivity'] == {'file': None, 'held_out': 2, 'loss': 'kl', 'checked': 8, 'linears': False}"
# The report has it: each group under its rule, correlations, and the sum that predicts what the run then has.
holds "$scratch/plain/report.json" "r['sensitivity'] is None"
same_as_report() {  # REPORT SENSITIVITY
  "$PYTHON" - "$@" <<'P'
import json, sys
section, file = json.load(open(sys.argv[1]))["sensitivity"], json.load(open(sys.argv[2]))
assert section["held_out_tokens"] == file["data"]["held_out_tokens"] == 512
assert section["rank_correlation"] == file["rank_correlation"] and section["rank_correlation"]["pairs"]["all"] == len(file["groups"])
assert section["candidates"] == ["int4 sym g128, rtn", "int8 sym g128, rtn", "int3 sym g128, rtn"], section["candidates"]
assert len(section["groups"]) == len(file["groups"])
for said, group in zip(section["groups"], file["groups"]):
    assert said["name"] == group["name"] and len(said["losses"]) == 1
    assert f".layers.{said['block']}." in group["linears"][0]
    assert said["role"] == "/".join(name.split(".")[-1] for name in group["linears"])
    for key, there in (("kl", "kl"), ("fisher", "fisher"), ("output_error", "output_relative_error"), ("weight_error", "weight_relative_mse"), ("candidate", "candidate")):
        assert said["losses"][0][key] == group["losses"][0][there], (said, group)
P
}
same_as_report "$scratch/measured/report.json" "$file"
sum=$(value "$file" "f\"{sum(g['losses'][0]['kl'] for g in r['groups']):.4g}\"")
grep -q "^| sensitivity | predicted KL $sum (measured on 512 tokens held out).*rank correlation.*([0-9]* pairs) |" "$scratch/measured/report.md" ||
  fail "the summary doesn't say what is predicted: $(grep sensitivity "$scratch/measured/report.md")"
groups=$(value "$file" "len(r['groups'])")
(($(sed -n '/^## Sensitivity/,/^## Every/p' "$scratch/measured/report.md" | grep -cE '^\| model.layers.* int[348] sym') == groups)) || fail "report.md hasn't each group"
# Measured once; of other rules it is refused, not used.
stamp=$(stat -c %Y.%i "$file")
run "$scratch/measured" --set 'sensitivity={held_out: 2}' --overwrite
[[ $(stat -c %Y.%i "$file") == "$stamp" ]] || fail "measured twice"
same_as_report "$scratch/measured/report.json" "$file"
refuses 2 "was not measured" run "$scratch/measured" --set "sensitivity={held_out: 2}" --set 'rules[0].scheme.bits=5' --overwrite
# A dry run counts what measuring takes, beside the run, and leaves none of it.
run "$scratch/dry" --set 'sensitivity={held_out: 2}' --dry-run >"$scratch/plan"
for line in "measure .* by its rule" "measuring  at most" "memory     at most" ".* s  sensitivity: held-out text$" ".* s  forward$"; do
  grep -q "^$line" "$scratch/plan" || fail "no '$line' in the plan: $(cat "$scratch/plan")"
done
run "$scratch/dry" --set 'sensitivity={held_out: 2}' --dry-run --json >"$scratch/plan"
holds "$scratch/plan" "r['measuring']['memory']['ram'] > 0 and 0 < r['measuring']['work']['seconds'] < r['work']['seconds']"
refuses 2 "the smallest limit that would do is --max-ram" run "$scratch/dry" --set 'sensitivity={held_out: 2}' --dry-run --max-ram 20MB
grep -q "^consumer" "$scratch/stdout" || fail "a refused plan isn't printed: $(cat "$scratch/stdout")"
run "$scratch/measured" --set 'sensitivity={held_out: 2}' --overwrite --dry-run --json >"$scratch/plan"
holds "$scratch/plan" "r['measuring'] is None"
[[ ! -e $scratch/dry.sensitivity.json ]] || fail "a dry run measures"
holds "$scratch/measured/report.json" "'measure sensitivity' not in [s['name'] for s in r['stages']]"
run "$scratch/again" --set 'sensitivity={held_out: 2}'
holds "$scratch/again/report.json" "[s['seconds'] > 0 for s in r['stages'] if s['name'] == 'measure sensitivity'] == [True]"
# What is there is told where it was measured otherwise.
run "$scratch/measured" --set 'sensitivity={held_out: 4}' --overwrite --dry-run >"$scratch/plan"
grep -q 'was measured otherwise: held_out 2 (here 4); it is used as it is' "$scratch/plan" || fail "$(cat "$scratch/plan")"

# Each linear by itself, beside its group and its estimate; what lacks them is told, and the plan counts them.
run "$scratch/alone" --set 'sensitivity={held_out: 2, linears: true}'
"$PYTHON" - "$scratch/alone" "$file" <<'P'
import json, sys
report, alone, groups = (json.load(open(f)) for f in (f"{sys.argv[1]}/report.json", f"{sys.argv[1]}.sensitivity.json", sys.argv[2]))
page, document = (open(f"{sys.argv[1]}/report.{kind}").read() for kind in ("html", "md"))
count = 0
for said, group, whole in zip(report["sensitivity"]["groups"], alone["groups"], groups["groups"], strict=True):
    loss, = group["losses"]
    assert abs(loss["kl"] / whole["losses"][0]["kl"] - 1) < 1e-6 and loss["fisher"] == whole["losses"][0]["fisher"], group["name"]
    assert all(linear["kl"] is None and linear["fisher"] > 0 for linear in whole["losses"][0]["linears"])
    assert all(linear["kl"] > 0 for linear in loss["linears"]), group["name"]
    if len(loss["linears"]) == 1:
        assert loss["linears"][0]["kl"] == loss["kl"]
    else:
        assert 0.2 < sum(linear["kl"] for linear in loss["linears"]) / loss["kl"] < 5, group
    for name, linear, row in zip(group["linears"], loss["linears"], said["losses"][0]["linears"], strict=True):
        assert row == {"name": name, "kl": linear["kl"], "fisher": linear["fisher"], "output_error": linear["output_relative_error"]}
        assert f"| {name} | int" in document and name in page
        count += 1
found = report["sensitivity"]["rank_correlation"]
assert found["pairs"]["linears"] == count > len(alone["groups"]) and found["linears"]["fisher"] > 0.8, found
assert f"| each linear alone | {count} | - |" in document
assert "linears" not in groups["rank_correlation"]
P
run "$scratch/alone" --set "sensitivity={file: $file, held_out: 2, linears: true}" --overwrite --dry-run >"$scratch/plan"
grep -q 'was measured otherwise: linears false (here true); it is used as it is' "$scratch/plan" || fail "$(cat "$scratch/plan")"
run "$scratch/dry" --set 'sensitivity={held_out: 2, linears: true}' --dry-run --json >"$scratch/plan-alone"
run "$scratch/dry" --set 'sensitivity={held_out: 2}' --dry-run --json >"$scratch/plan"
"$PYTHON" - "$scratch/plan" "$scratch/plan-alone" <<'P'
import json, sys
groups, alone = (json.load(open(f)) for f in sys.argv[1:])
text = lambda plan: next(stage["flops"] for stage in plan["measuring"]["work"]["stages"] if stage["name"] == "held-out text")
assert text(alone) > 1.5 * text(groups), (text(groups), text(alone))
memory = lambda plan: plan["measuring"]["memory"]["ram"] + plan["measuring"]["memory"]["disk"]
assert memory(alone) > memory(groups)
P
run "$scratch/dry" --set 'sensitivity={held_out: 2, linears: true}' --dry-run >"$scratch/plan"
grep -q '^measure .* groups and each of their linears under' "$scratch/plan" || fail "$(cat "$scratch/plan")"

# By itself, with transforms: AWQ's scales and clips are in what is measured.
measure() {
  local recipe=$1 output=$2; shift 2
  "$QUANTIZE" sensitivity --recipe "$recipe" --output "$output" --device cpu --quiet --set calibration.samples=8 \
    --set calibration.seq_len=128 --set 'sensitivity={held_out: 2}' "$@"
}
measure recipes/awq.yaml "$scratch/awq"
measure recipes/awq.yaml "$scratch/none" --set transforms=[]
"$PYTHON" - "$scratch/awq/sensitivity.json" "$scratch/none/sensitivity.json" <<'P'
import json, sys
awq, none = (json.load(open(f)) for f in sys.argv[1:])
assert awq["candidates"] == none["candidates"] and len(awq["groups"]) == len(none["groups"]) == 24
kl = [sum(g["losses"][0]["kl"] for g in r["groups"]) for r in (awq, none)]
error = [sum(g["losses"][0]["output_relative_error"] for g in r["groups"]) for r in (awq, none)]
print(kl, error)
assert kl[0] < 0.9 * kl[1] and error[0] < 0.9 * error[1]
assert awq["data"]["recipe"]["transforms"][0]["awq"] and "transforms" not in none["data"]["recipe"]
P
quick recipes/awq.yaml "$scratch/x" --dry-run --set "sensitivity={file: $scratch/none/sensitivity.json, held_out: 2}" \
  --set calibration.seq_len=128 >"$scratch/plan"
grep -q 'was measured otherwise: transforms null (here \[' "$scratch/plan" || fail "$(cat "$scratch/plan")"

# A GGUF file's tensors under the types that they get; where a solver's codes go in as they are, the solver.
measure recipes/gguf.yaml "$scratch/gguf"
holds "$scratch/gguf/sensitivity.json" "{c['gguf'] for c in r['candidates']} >= {'Q4_K', 'Q6_K'}"
holds "$scratch/gguf/sensitivity.json" "[g['table'] for g in r['groups'] if 'table' in g] == ['model.embed_tokens.weight']"
holds "$scratch/gguf/sensitivity.json" "len(r['groups']) == 43 and all(g['losses'][0]['kl'] > 0 for g in r['groups'])"
quick recipes/gguf.yaml "$scratch/file" --set calibration.seq_len=128 --set evaluate=null
"$PYTHON" - "$scratch/gguf/sensitivity.json" "$scratch/file" <<'P'
import glob, json, sys
from gguf import GGUFReader
r = json.load(open(sys.argv[1]))
file, = [f for f in glob.glob(sys.argv[2] + "/*.gguf") if "imatrix" not in f]
types = {t.name: t.tensor_type.name for t in GGUFReader(file).tensors}
assert all(r["candidates"][g["losses"][0]["candidate"]]["gguf"] == types[g["name"]] for g in r["groups"])
P
measure recipes/gguf.yaml "$scratch/codes" --set 'output.formats=[gguf:Q4_0]' --set 'rules=[{targets: [attention],
  scheme: {bits: 4, group_size: 32}, solver: {gptq: {}}}, {targets: [linear], scheme: {type: float}, solver: {float: {}}}]'
holds "$scratch/codes/sensitivity.json" "sum('solver' in r['candidates'][g['losses'][0]['candidate']] for g in r['groups']) == 24"
# An importance matrix that is given is what blocks are searched with; one of another model is refused.
given=(--set "output.imatrix=$scratch/file/imatrix.gguf" --calib data/text/evaluation.txt)
measure recipes/gguf.yaml "$scratch/given" "${given[@]}"
measure recipes/gguf.yaml "$scratch/other" --calib data/text/evaluation.txt
"$PYTHON" - "$scratch"/{given,other,gguf}/sensitivity.json <<'P'
import json, sys
given, other, own = ([g["losses"][0]["weight_mse"] for g in json.load(open(f))["groups"]] for f in sys.argv[1:])
far = lambda a, b: sum(abs(x - y) for x, y in zip(a, b))
print(far(given, own), far(other, own))
assert far(given, own) < far(other, own)
P
checkpoint "$scratch/small" llama "{\"vocab_size\": $(value "$MODEL/config.json" "r['vocab_size']"), \"hidden_size\": 256, \"intermediate_size\": 512,
  \"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"num_key_value_heads\": 4}"
touch "$scratch/awq/manifest.json"
refuses 2 "$scratch/awq: holds a finished artefact" measure recipes/awq.yaml "$scratch/awq" --overwrite
refuses 2 "$scratch/awq: holds a finished artefact" measure recipes/awq.yaml "$scratch/awq" --dry-run
refuses 2 "it is of another model" measure recipes/gguf.yaml "$scratch/x" --model "$scratch/small" "${given[@]}"

refuses 2 "candidates are measured on activations" run "$scratch/x" --set 'sensitivity={}' --set calibration=null --dry-run
refuses 2 "candidates are measured on activations" run "$scratch/x" --set 'sensitivity={}' --set calibration=null
refuses 2 "candidates are measured on activations" measure recipes/rtn.yaml "$scratch/x" --set calibration=null
"$QUANTIZE" sensitivity --recipe recipes/awq.yaml --output "$scratch/planned" --device cpu --dry-run >"$scratch/plan"
grep -q 'measure    24 groups under one of them each, as rules say' "$scratch/plan" || fail "$(cat "$scratch/plan")"
[[ ! -e $scratch/planned ]] || fail "a dry run writes"
