# The shipped W4A8 recipe: INT4 weights with INT8 activations (a code a byte), and with FP8 ones (packed); simulated in the
# evaluation, read back with the same numbers, and refused where no engine multiplies such a pair.
. tests/e2e/lib.sh
run() { quick recipes/w4a8.yaml "$scratch/$1" "${@:2}"; }
fp8=(--set 'rules[0].activations.type=fp8_e4m3')
kl() { value "$scratch/$1/report.json" "r['evaluation']['kl_mean']"; }
# again NAME: what eval says of the artefact is what the run's own evaluation said.
again() {
  "$QUANTIZE" eval --model "$scratch/$1" --reference "$MODEL" --text data/text/evaluation.txt --ctx 512 --rows 4 --device cpu --json >"$scratch/eval.json"
  holds "$scratch/eval.json" "abs(r['kl_mean'] - $(kl "$1")) <= 1e-6 * r['kl_mean']"
}
run plan --dry-run >"$scratch/plan"
grep -q "42 linears, int4 sym g128, input int8 sym dynamic per token" "$scratch/plan" || fail "the plan lacks the scheme: $(head -3 "$scratch/plan")"
grep -q "vLLM on CPUs: dynamic 4-bit .*, ok for TP 1" "$scratch/plan" || fail "no word on vLLM: $(grep consumer "$scratch/plan")"
run plan "${fp8[@]}" --dry-run >"$scratch/plan"
grep -q "vLLM on Hopper: CUTLASS W4A8 (bfloat16 models), ok for TP 1" "$scratch/plan" || fail "no word on vLLM: $(grep consumer "$scratch/plan")"

run weights --set 'rules[0].activations=null'
run int8
run fp8 "${fp8[@]}"
for name in int8 fp8; do again "$name"; done
echo "mean KL: weights $(kl weights), int8 inputs $(kl int8), fp8 inputs $(kl fp8)"
"$PYTHON" -c "import sys; sys.exit(not $(kl weights) < $(kl int8) < $(kl fp8) < 0.03)" || fail "inputs of 8 bits don't count, or are broken"
holds "$scratch/int8/config.json" "r['quantization_config']['format'] == 'int-quantized'"
holds "$scratch/fp8/config.json" "r['quantization_config']['format'] == 'pack-quantized'"
holds "$scratch/fp8/config.json" "r['quantization_config']['config_groups']['group_0']['input_activations']['type'] == 'float'"
"$PYTHON" - "$scratch" <<'PY' || fail "codes are stored otherwise"
import sys
from safetensors import safe_open
def types(name):
    with safe_open(f"{sys.argv[1]}/{name}/model.safetensors", "pt") as file:
        return {n.rsplit(".", 1)[1]: file.get_slice(n).get_dtype() for n in file.keys() if "layers.0.mlp.up_proj" in n}
assert types("int8") == {"weight": "I8", "weight_scale": "F16"}, types("int8")
assert types("fp8") == {"weight_packed": "I32", "weight_scale": "F16", "weight_shape": "I64"}, types("fp8")
PY
"$QUANTIZE" verify "$scratch/fp8" --reference "$MODEL" >/dev/null
"$QUANTIZE" inspect "$scratch/fp8" | grep -q "scheme: int4 sym g128, input fp8_e4m3 dynamic per token: 42 linears" || fail "inspect lacks the inputs"

# Both kinds, and linears of plain weights, in one model; the same bytes out of a copy.
mixed='rules=[{targets: [down_proj], scheme: {bits: 4, group_size: 128}}, {targets: [mlp], scheme: {bits: 4, group_size: -1}, activations: {}}, {scheme: {bits: 4, group_size: 128}, activations: {type: fp8_e4m3}}]'
run mixed --set "$mixed"
again mixed
holds "$scratch/mixed/config.json" "r['quantization_config']['format'] == 'mixed-precision'"
"$QUANTIZE" convert --model "$scratch/fp8" --to compressed-tensors --output "$scratch/copy" --quiet
cmp "$scratch/fp8/model.safetensors" "$scratch/copy/model.safetensors" || fail "a copy has other bytes"

refuses 2 "int4 asym g128 can't be multiplied with activations int8" run no --set 'rules[0].scheme.symmetric=false'
refuses 2 "can't be multiplied with activations int8 sym static per tensor" run no --set 'rules[0].activations={dynamic: false, per: tensor}'
refuses 2 "int5 sym g128 can't be multiplied" run no --set 'rules[0].scheme.bits=5'
for format in gptq awq hqq; do refuses 2 "activations" run no --set "output.formats=[$format]"; done
