# report.json is as its schema says, and report.html shows all of it in a browser: of runs with folds, outliers, static
# inputs, a format that rounds by itself, experts, and a model whose name is markup.
. tests/e2e/lib.sh
status=0
look() {  # FOLDER
  local code=0
  "$PYTHON" tests/tools/check_report.py "$1" >"$scratch/seen" 2>&1 || code=$?
  ((code == 0 || code == 77)) || fail "$(basename "$1"): $(tail -3 "$scratch/seen")"
  ((code == 0)) || status=77
}
hostile="$scratch/<img src=x onerror=alert(1)>"
copy_model "$hostile"
quick recipes/smoothquant.yaml "$scratch/static" --model "$hostile" --set report.activations=true \
  --set 'rules[0].activations={type: int, bits: 8, dynamic: false, per: tensor, symmetric: true}'
holds "$scratch/static/report.json" "all(l['input_limit'] > 0 and l['scales']['least'] <= l['scales']['median'] <= l['scales']['largest'] for l in r['linears'])"
holds "$scratch/static/report.json" "all(sum(l['histogram']['before']) == sum(l['histogram']['after']) > 0 for l in r['linears'])"
# Rows that share no scale; symmetric, so that a grid reaches 128 scales.
holds "$scratch/static/report.json" "all(abs(l['histogram']['clip'][k] / (128 * l['scales'][k]) - 1) < 1e-6 for l in r['linears'] for k in ('least', 'median', 'largest'))"
# Every scale of these small linears is in its role's histogram, from the least to the largest: one a row, a tensor, a tile; of
# NVFP4 a group's E4M3 number over the tensor's own.
histograms_hold() {  # FOLDER SCALES
  "$PYTHON" - "$@" <<'P'
import json, math, sys
from safetensors import safe_open
folder, expected = sys.argv[1], int(sys.argv[2])
report, scales = json.load(open(f"{folder}/report.json")), {}
with safe_open(f"{folder}/model.safetensors", "pt") as file:
    names = set(file.keys())
    for name in names:
        if not name.endswith(".weight_scale"):
            continue
        module = name.removesuffix(".weight_scale")
        values = file.get_tensor(name).double()
        if f"{module}.weight_global_scale" in names:
            values /= file.get_tensor(f"{module}.weight_global_scale").double()
        scales.setdefault(module.split(".")[-1], []).extend(values.flatten().tolist())
assert sum(map(len, scales.values())) == expected, sum(map(len, scales.values()))
found = {row["role"]: row for row in report["scale_histograms"]}
assert found.keys() == scales.keys() and len(found) == 7, found.keys()
near = lambda a, b: abs(a / b - 1) < 1e-6  # FP32's product is rounded
for role, values in scales.items():
    row, bins = found[role], [math.floor(4 * math.log2(value)) for value in values]
    assert row["counts"] == [bins.count(row["first"] + i) for i in range(len(row["counts"]))] and sum(row["counts"]) == len(values), role
    assert near(row["least"], min(values)) and near(row["largest"], max(values)) and row["zeros"] == 0, role
    assert abs(4 * math.log2(row["median"] / sorted(values)[(len(values) - 1) // 2])) <= 0.51, role
P
}
histograms_hold "$scratch/static" 15360
for recipe in nvfp4:294912 fp8-static:42 fp8-block:288; do
  quick "recipes/${recipe%:*}.yaml" "$scratch/${recipe%:*}" --set evaluate=null --set 'output.formats=[compressed-tensors]'
  histograms_hold "$scratch/${recipe%:*}" "${recipe#*:}"
done
look "$scratch/nvfp4"
# Each input's histogram has the clip of the linears that read it, and is of what they read: folds applied.
holds "$scratch/static/report.json" "{h['clip'] for h in r['input_histograms']} == {l['input_limit'] for l in r['linears']}"
holds "$scratch/static/report.json" "all(sum(h['counts']) > 30000 and h['counts'][0] + h['counts'][-1] > 0 and 0 < h['limit'] <= h['clip'] * 1.01 for h in r['input_histograms'])"
! grep -q '<img' "$scratch/static/report.html" || fail "a model's name stands in the page as markup"
look "$scratch/static"

quick recipes/spqr.yaml "$scratch/outliers"
holds "$scratch/outliers/report.json" "sum(l['outliers'] for l in r['linears']) == r['totals']['outliers'] > 0"
look "$scratch/outliers"

quick recipes/gguf.yaml "$scratch/rounded"
# GGUF's blocks: the weights before and after, and no grid whose reach is known.
holds "$scratch/rounded/report.json" "all(sum(l['histogram']['before']) == sum(l['histogram']['after']) > 10000 for l in r['linears'])"
# Of its blocks the scales are known, and so is what its linears put out.
holds "$scratch/rounded/report.json" "all(0 < l['scales']['least'] <= l['scales']['median'] <= l['scales']['largest'] and 0 < l['output_error'] < 1 for l in r['linears'])"
holds "$scratch/rounded/report.json" "len(r['scale_histograms']) == 7 and all(0 < sum(h['counts']) and h['counts'][0] and h['counts'][-1] for h in r['scale_histograms'])"
holds "$scratch/rounded/report.json" "all(l['histogram']['clip'] is None and l['histogram']['before'] != l['histogram']['after'] for l in r['linears'])"
look "$scratch/rounded"

checkpoint "$scratch/mixtral" mixtral "{\"vocab_size\": $(value "$MODEL/config.json" "r['vocab_size']"), \"num_local_experts\": 4}"
quick recipes/rtn.yaml "$scratch/experts" --model "$scratch/mixtral" "${symmetric[@]}" --set 'rules[0].scheme.group_size=16'
look "$scratch/experts"

quick recipes/mixed-4.25bpw.yaml "$scratch/budget" --set 'candidates=[{scheme: {bits: 3}}, {scheme: {bits: 8}}]' \
  --set 'budget={bits_per_weight: 5}' --set sensitivity.held_out=1
grep -q '^| chosen | ' "$scratch/budget/report.md" && grep -q '^| frontier | ' "$scratch/budget/report.md" || fail "report.md lacks the frontier"
holds "$scratch/budget/report.json" "r['budget']['chosen'] in r['budget']['frontier'] and len(r['budget']['uniform']) == 2"
holds "$scratch/budget/report.json" "len(r['input_histograms']) == 24 and all(h['clip'] is None for h in r['input_histograms'])"
look "$scratch/budget"
# What was measured is in the report of rules, too, and in a document of its own.
quick recipes/rtn.yaml "$scratch/rules" --set 'sensitivity={held_out: 1, linears: true}' --set evaluate=null
look "$scratch/rules"
"$QUANTIZE" sensitivity --recipe recipes/sensitivity.yaml --model "$hostile" --output "$scratch/measured" --device cpu --quiet \
  --set calibration.samples=8 --set calibration.seq_len=128 --set sensitivity.held_out=2 --set sensitivity.loss=fisher
! grep -q '<img' "$scratch/measured/sensitivity.html" || fail "a model's name stands in the page of measurements as markup"
look "$scratch/measured"

quick recipes/hqq.yaml "$scratch/alone" --set calibration=null
look "$scratch/alone"
# An artefact that was converted says so, and shows the run that rounded it.
quick recipes/rtn.yaml "$scratch/rtn" "${symmetric[@]}"
"$QUANTIZE" convert --model "$scratch/rtn" --to gptq --output "$scratch/gptq" --quiet
look "$scratch/gptq"
grep -q '"converted":{"from":"compressed-tensors"' "$scratch/gptq/report.html" || fail "the converted artefact's page doesn't say so"
((status == 0)) || skip "no chromium on this machine: report.html was not looked at"
