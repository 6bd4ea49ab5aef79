# The shipped HQQ recipe runs without calibration data, keeps more of the model than plain rounding to the same grid, and
# leaves what the hqq library loads; with integer zero points it serves compressed-tensors.
. tests/e2e/lib.sh
run() { "$QUANTIZE" --recipe recipes/hqq.yaml --device cpu --quiet --set evaluate.rows=8 --output "$scratch/$1" "${@:2}"; }
run hqq
run integer --set 'output.formats=[compressed-tensors]' --set 'rules[0].scheme.zero_point=integer'
run rtn --set 'output.formats=[compressed-tensors]' --set 'rules[0].scheme.zero_point=integer' --set 'rules[0].solver={rtn: {}}'
run columns --set 'rules[0].scheme.axis=0' --set 'rules[0].scheme.bits=3' --set evaluate=null
holds "$scratch/hqq/config.json" "r['quantization_config']['quant_method'] == 'hqq'"
grep -q HQQLinear "$scratch/hqq/report.md" || fail "report.md names another loader than the format's"
grep -q "vllm serve" "$scratch/integer/report.md" || fail "report.md names another loader than the format's"
holds "$scratch/hqq/config.json" "r['quantization_config']['quant_config']['weight_quant_params']['group_size'] == 64"
holds "$scratch/hqq/manifest.json" "r['dataset'] is None and r['recipe']['calibration'] is None"
holds "$scratch/hqq/report.json" "len(r['linears']) == 42 and all(0 < l['weight_error'] < 0.02 for l in r['linears'])"
holds "$scratch/columns/report.json" "all(l['scheme'] == 'int3 asym g64 real zero axis 0' for l in r['linears'])"
mean() { value "$scratch/$1/report.json" "sum(l['weight_error'] for l in r['linears'])"; }
kl() { value "$scratch/$1/report.json" "r['evaluation']['kl_mean']"; }
echo "KL: HQQ $(kl hqq), integer zero points $(kl integer), RTN $(kl rtn); weight error $(mean hqq), $(mean integer), $(mean rtn)"
"$PYTHON" -c "import sys; sys.exit(not ($(mean hqq) < 0.98 * $(mean rtn) and $(mean integer) <= $(mean rtn) and 0 < $(kl hqq) < 0.98 * $(kl rtn) and 0 < $(kl integer) < 0.98 * $(kl rtn)))" ||
  fail "HQQ is not better than plain rounding"

# The recipe in the manifest is the recipe: the same bytes again.
"$PYTHON" -c "import json, sys; json.dump(json.load(open(sys.argv[1]))['recipe'], open(sys.argv[2], 'w'))" "$scratch/hqq/manifest.json" "$scratch/again.yaml"
"$QUANTIZE" --recipe "$scratch/again.yaml" --device cpu --quiet --set evaluate=null --output "$scratch/again"
cmp "$scratch/hqq/model.safetensors" "$scratch/again/model.safetensors" || fail "other bytes from the manifest's recipe"

# An artefact is read as any model is.
"$QUANTIZE" eval --model "$scratch/hqq" --text data/text/evaluation.txt --rows 8 --device cpu --json >"$scratch/eval.json"
holds "$scratch/eval.json" "abs(r['perplexity'] / $(value "$scratch/hqq/report.json" "r['evaluation']['perplexity_after']") - 1) < 1e-6"

# What can't be is said before anything is done.
refuses 2 'solver hqq: it fits zero points' run no --set 'rules[0].scheme={bits: 4, group_size: 64}'
refuses 2 "real zero points can't be stored: use \`zero_point: integer\`" run no --set 'output.formats=[compressed-tensors]'
refuses 2 "axis 0 can't be stored" run no --set 'output.formats=[compressed-tensors]' --set 'rules[0].scheme={bits: 4, group_size: 64, symmetric: false, axis: 0}'
refuses 2 'solver rtn: its zero points are integers' run no --set 'rules[0].solver={rtn: {}}'
refuses 2 'transform awq works on activations' run no --set 'transforms=[{awq: {}}]'
refuses 2 "group_size 40 does not divide" run no --set 'rules[0].scheme.group_size=40'
"$QUANTIZE" --recipe recipes/hqq.yaml --dry-run --device cpu >"$scratch/plan"
grep -q 'calibrate  no data' "$scratch/plan" && grep -q 'solver hqq' "$scratch/plan" || fail "the plan: $(cat "$scratch/plan")"
