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
# Each input's histogram has the clip of the linears that read it, and is of what they read: folds applied.
holds "$scratch/static/report.json" "{h['clip'] for h in r['input_histograms']} == {l['input_limit'] for l in r['linears']}"
holds "$scratch/static/report.json" "all(sum(h['counts']) > 30000 and h['counts'][0] + h['counts'][-1] > 0 and 0 < h['limit'] <= h['clip'] * 1.01 for h in r['input_histograms'])"
! grep -q '<img' "$scratch/static/report.html" || fail "a model's name stands in the page as markup"
look "$scratch/static"

quick recipes/spqr.yaml "$scratch/outliers"
holds "$scratch/outliers/report.json" "sum(l['outliers'] for l in r['linears']) == r['totals']['outliers'] > 0"
look "$scratch/outliers"

quick recipes/gguf.yaml "$scratch/rounded"
holds "$scratch/rounded/report.json" "all(l['histogram'] is None and l['scales'] is None for l in r['linears'])"
look "$scratch/rounded"

checkpoint "$scratch/mixtral" mixtral "{\"vocab_size\": $(value "$MODEL/config.json" "r['vocab_size']"), \"num_local_experts\": 4}"
quick recipes/rtn.yaml "$scratch/experts" --model "$scratch/mixtral" "${symmetric[@]}" --set 'rules[0].scheme.group_size=16'
look "$scratch/experts"

quick recipes/mixed-4.25bpw.yaml "$scratch/budget" --set 'candidates=[{scheme: {bits: 3}}, {scheme: {bits: 8}}]' \
  --set 'budget={bits_per_weight: 5}' --set sensitivity.held_out=1
holds "$scratch/budget/report.json" "r['budget']['chosen'] in r['budget']['frontier'] and len(r['budget']['uniform']) == 2"
holds "$scratch/budget/report.json" "len(r['input_histograms']) == 24 and all(h['clip'] is None for h in r['input_histograms'])"
look "$scratch/budget"

quick recipes/hqq.yaml "$scratch/alone" --set calibration=null
look "$scratch/alone"
# An artefact that was converted says so, and shows the run that rounded it.
quick recipes/rtn.yaml "$scratch/rtn" "${symmetric[@]}"
"$QUANTIZE" convert --model "$scratch/rtn" --to gptq --output "$scratch/gptq" --quiet
look "$scratch/gptq"
grep -q '"converted":{"from":"compressed-tensors"' "$scratch/gptq/report.html" || fail "the converted artefact's page doesn't say so"
((status == 0)) || skip "no chromium on this machine: report.html was not looked at"
