# The shipped recipes of floating-point grids: FP8 with dynamic and static activations and in blocks, NVFP4, MXFP4; through both formats
# that hold them.
. tests/e2e/lib.sh
# With several formats each has the report.
kl() { local folder=$scratch/$1; [[ -e $folder/report.json ]] || folder+=/modelopt; value "$folder/report.json" "r['evaluation']['kl_mean']"; }
# same_eval FOLDER RUN: eval reads the artefact and simulates its activations: what the run's own evaluation said.
same_eval() {
  "$QUANTIZE" eval --model "$scratch/$1" --reference "$MODEL" --text data/text/evaluation.txt --ctx 512 --rows 4 --device cpu --json >"$scratch/eval.json"
  local run again; run=$(kl "$2"); again=$(value "$scratch/eval.json" "r['kl_mean']")
  "$PYTHON" -c "import sys; sys.exit(not abs($run - $again) <= 1e-6 * $again)" || fail "$1: report says KL $run, eval says $again"
}
quick recipes/fp8-dynamic.yaml "$scratch/dynamic" --dry-run >"$scratch/plan"
grep -q "42 linears, fp8_e4m3 channel, input fp8_e4m3 dynamic per token" "$scratch/plan" || fail "the plan: $(cat "$scratch/plan")"
grep -q "CUTLASS FP8 (Ada and newer), ok for TP 1, 2" "$scratch/plan" || fail "the plan lacks vLLM's kernel: $(cat "$scratch/plan")"

quick recipes/fp8-dynamic.yaml "$scratch/dynamic"
quick recipes/fp8-static.yaml "$scratch/static"
quick recipes/nvfp4.yaml "$scratch/nvfp4"
quick recipes/nvfp4-w4a4.yaml "$scratch/w4a4"
nearest() { local recipe=$1 output=$2 range=$3; quick "recipes/$recipe.yaml" "$scratch/$output" --set "rules[0].solver={rtn: {range: $range}}" --set "output.formats=[$4]"; }
nearest nvfp4 minmax minmax modelopt
nearest nvfp4 weighted weighted modelopt
quick recipes/mxfp4.yaml "$scratch/mxfp4"
nearest mxfp4 mx_minmax minmax compressed-tensors
nearest mxfp4 mx_weighted weighted compressed-tensors
quick recipes/fp8-block.yaml "$scratch/block"
echo "mean KL: fp8 dynamic $(kl dynamic), static $(kl static), block $(kl block); nvfp4 $(kl nvfp4), to nearest $(kl weighted), minmax $(kl minmax), w4a4 $(kl w4a4)"
echo "mxfp4 $(kl mxfp4), to nearest $(kl mx_weighted), minmax $(kl mx_minmax)"
"$PYTHON" -c "import sys; sys.exit(not 0 < $(kl dynamic) < $(kl static) * 1.2 < 0.01)" || fail "FP8's divergence"
"$PYTHON" -c "import sys; sys.exit(not $(kl static) < $(kl nvfp4) < $(kl weighted) < $(kl minmax) < 0.5)" || fail "NVFP4's divergence"
"$PYTHON" -c "import sys; sys.exit(not $(kl nvfp4) < $(kl w4a4) < 0.5)" || fail "divergence of NVFP4 with activations"
"$PYTHON" -c "import sys; sys.exit(not $(kl nvfp4) < $(kl mxfp4) < $(kl mx_weighted) < $(kl mx_minmax) < 0.5)" || fail "MXFP4's divergence"
"$PYTHON" -c "import sys; sys.exit(not 0 < $(kl block) < 0.01)" || fail "divergence of FP8 in blocks"
for run in dynamic static nvfp4 w4a4; do
  same_eval "$run/modelopt" "$run"
  same_eval "$run/compressed-tensors" "$run"
done
same_eval mxfp4 mxfp4
same_eval block block
# The recipe in the manifest is read again, too.
for folder in {dynamic,static,nvfp4,w4a4}/{modelopt,compressed-tensors} mxfp4 block; do
  "$QUANTIZE" verify "$scratch/$folder" --reference "$MODEL" >"$scratch/log" || fail "verify $folder: $(cat "$scratch/log")"
done
holds "$scratch/block/config.json" "r['quantization_config']['config_groups']['group_0']['weights']['block_structure'] == [128, 128]"
holds "$scratch/static/modelopt/hf_quant_config.json" "r['quantization']['quant_algo'] == 'FP8'"
holds "$scratch/nvfp4/modelopt/hf_quant_config.json" "r['quantization'] == {'quant_algo': 'W4A16_NVFP4', 'kv_cache_quant_algo': None, 'group_size': 16, 'exclude_modules': ['lm_head']}"
holds "$scratch/w4a4/compressed-tensors/config.json" "r['quantization_config']['format'] == 'nvfp4-pack-quantized'"
"$QUANTIZE" inspect "$scratch/w4a4/modelopt" >"$scratch/inspect"
grep -q "scheme: nvfp4 g16, input nvfp4 dynamic per group of 16: 42 linears" "$scratch/inspect" || fail "inspect: $(cat "$scratch/inspect")"
grep -q "vLLM: CUTLASS NVFP4" "$scratch/inspect" || fail "inspect lacks the consumer: $(cat "$scratch/inspect")"

# From one format to the other and back: the same bytes.
for run in static nvfp4 w4a4; do
  "$QUANTIZE" convert --model "$scratch/$run/modelopt" --to compressed-tensors --output "$scratch/there" --quiet
  "$QUANTIZE" convert --model "$scratch/there" --to modelopt --output "$scratch/back" --quiet
  cmp "$scratch/$run/modelopt/model.safetensors" "$scratch/back/model.safetensors"
  [[ ! -e $scratch/there/hf_quant_config.json ]] || fail "$run: hf_quant_config.json went along"
  rm -rf "$scratch/there" "$scratch/back"
done
refuses 2 "can't be stored" "$QUANTIZE" convert --model "$scratch/nvfp4/modelopt" --to gptq --output "$scratch/no"

# Folds in front: AWQ before NVFP4 lowers its own loss, and before INT4 for TensorRT-LLM leaves factors of 1.
quick recipes/nvfp4.yaml "$scratch/awq" --set 'transforms=[{awq: {clip: false}}]' --set 'output.formats=[modelopt]'
holds "$scratch/awq/report.json" "sum(f['applied'] for f in r['folds']) >= 10"
quick recipes/awq.yaml "$scratch/int4" "${symmetric[@]}" --set 'output.formats=[modelopt]' --set 'rules[0].scheme.group_size=64'
same_eval int4 int4
holds "$scratch/int4/report.json" "any('vLLM (0.32) won' in w for w in r['warnings'])"

# W4A8: INT4 weights under FP8 inputs, whose range TensorRT-LLM wants to be one for linears that it stacks; read back, and as
# modelopt's older exports have it, without a word in config.json.
quick recipes/awq.yaml "$scratch/w4a8" "${symmetric[@]}" --set 'output.formats=[modelopt]' --set 'rules[0].scheme.group_size=128' --set 'rules[0].activations={type: fp8_e4m3, dynamic: false}'
same_eval w4a8 w4a8
holds "$scratch/w4a8/hf_quant_config.json" "r['quantization']['quant_algo'] == 'W4A8_AWQ' and r['quantization']['group_size'] == 128"
"$PYTHON" - "$scratch/w4a8/model.safetensors" <<'PY' || fail "weight_scale_2 or input_scale differ between stacked linears"
import sys
from safetensors import safe_open
with safe_open(sys.argv[1], "pt") as file:
    value = lambda linear, scale: file.get_tensor(f"model.layers.3.{linear}.{scale}").item()
    for scale in "weight_scale_2", "input_scale":
        for module, parts in ("self_attn", "qkv"), ("mlp", ("gate", "up")):
            assert len({value(f"{module}.{part}_proj", scale) for part in parts}) == 1, (module, scale)
    assert value("self_attn.q_proj", "weight_scale_2") != value("self_attn.o_proj", "weight_scale_2")
PY
cp -r "$scratch/w4a8" "$scratch/older"
"$PYTHON" -c "import json, sys; path = sys.argv[1]; c = json.load(open(path)); del c['quantization_config']; json.dump(c, open(path, 'w'))" "$scratch/older/config.json"
"$QUANTIZE" inspect "$scratch/older" >"$scratch/said"
grep -q 'scheme: int4 sym g128, input fp8_e4m3 static per tensor: 42 linears' "$scratch/said" || fail "inspect of an older export: $(tail -5 "$scratch/said")"
grep -q 'consumer: TensorRT-LLM: CUTLASS mixed GEMM (Ada and newer), ok for TP 1' "$scratch/said" || fail "no word on TensorRT-LLM: $(grep consumer "$scratch/said")"
"$QUANTIZE" convert --model "$scratch/older" --to modelopt --output "$scratch/w4a8_again" --quiet
for file in model.safetensors config.json hf_quant_config.json; do cmp "$scratch/w4a8/$file" "$scratch/w4a8_again/$file" || fail "$file of an older export differs"; done
refuses 2 "group_size 32: TensorRT-LLM" quick recipes/awq.yaml "$scratch/no" "${symmetric[@]}" --set 'output.formats=[modelopt]' --set 'rules[0].scheme.group_size=32'

# Two algorithms in one modelopt folder: MIXED_PRECISION, in both of its files; read back, and as an older export.
two='rules=[{targets: [attention], scheme: {type: fp8_e4m3, per: tensor}, activations: {type: fp8_e4m3, dynamic: false, per: tensor}}, {targets: [mlp], scheme: {type: nvfp4}, activations: {type: nvfp4}}]'
quick recipes/fp8-static.yaml "$scratch/mixed" --set 'output.formats=[modelopt]' --set "$two"
same_eval mixed mixed
holds "$scratch/mixed/config.json" "r['quantization_config']['quant_algo'] == 'MIXED_PRECISION'"
holds "$scratch/mixed/hf_quant_config.json" "r['quantization']['quantized_layers']['model.layers.0.mlp.up_proj'] == {'quant_algo': 'NVFP4', 'group_size': 16}"
"$QUANTIZE" convert --model "$scratch/mixed" --to compressed-tensors --output "$scratch/mixed_ct" --quiet
"$QUANTIZE" convert --model "$scratch/mixed_ct" --to modelopt --output "$scratch/mixed_back" --quiet
for file in model.safetensors config.json hf_quant_config.json; do cmp "$scratch/mixed/$file" "$scratch/mixed_back/$file" || fail "$file of a mixed model differs after a way round"; done

# Without calibration: the same weights where nothing needs activations, fused linears sharing NVFP4's global scale; and the
# layout of Blackwell's tensor cores.
quick recipes/fp8-dynamic.yaml "$scratch/alone" --set calibration=null --set evaluate=null
cmp "$scratch/dynamic/modelopt/model.safetensors" "$scratch/alone/modelopt/model.safetensors"
quick recipes/nvfp4.yaml "$scratch/tiles" --set calibration=null --set evaluate=null --set 'rules[0].solver={rtn: {}}' --set 'output.formats=[modelopt, nvfp4-swizzled]'
cmp "$scratch/minmax/model.safetensors" "$scratch/tiles/model.safetensors"
holds "$scratch/tiles/layouts/nvfp4-swizzled/layout.json" "'weight_scale' in str(r)"
refuses 2 "calibration: null" quick recipes/fp8-static.yaml "$scratch/no" --set calibration=null

# The same bytes twice; and refusals.
quick recipes/nvfp4-w4a4.yaml "$scratch/again"
cmp "$scratch/w4a4/modelopt/model.safetensors" "$scratch/again/modelopt/model.safetensors"
refuses 2 "rounds to integers" quick recipes/nvfp4.yaml "$scratch/no" --set 'rules[0].solver={hqq: {}}'
# Scales chosen on the way: where the grid allows it.
quick recipes/nvfp4.yaml "$scratch/on_the_way" --set 'rules[0].solver.gptq={act_order: gar, static_groups: false}' --set 'output.formats=[modelopt]'
"$PYTHON" -c "import sys; sys.exit(not $(kl on_the_way) < $(kl weighted))" || fail "scales chosen on the way: KL $(kl on_the_way)"
refuses 2 "use act_order gar" quick recipes/nvfp4.yaml "$scratch/no" --set 'rules[0].solver={gptq: {static_groups: false}}'
refuses 2 "span rows; use static_groups: true" quick recipes/fp8-static.yaml "$scratch/no" --set 'rules[0].solver={gptq: {act_order: gar, static_groups: false}}'
refuses 2 "can't be stored" quick recipes/nvfp4.yaml "$scratch/no" --set 'output.formats=[gptq]'
# A tensor's one scale is searched, too.
quick recipes/fp8-static.yaml "$scratch/mse" --set 'output.formats=[compressed-tensors]' --set 'rules[0].solver={rtn: {range: mse}}' >/dev/null
errors() { value "$1/report.json" "sum(l['weight_error'] for l in r['linears'])"; }
holds "$scratch/mse/report.json" "$(errors "$scratch/mse") < $(errors "$scratch/static/compressed-tensors")"
refuses 2 "use \`clip: false\`" quick recipes/fp8-static.yaml "$scratch/no" --set 'transforms=[{awq: {}}]'
refuses 2 "by two rules" quick recipes/nvfp4.yaml "$scratch/no" --set 'rules=[{targets: [q_proj], scheme: {type: nvfp4}}, {scheme: {type: nvfp4}}]'
refuses 2 "128" quick recipes/fp8-static.yaml "$scratch/no" --set 'rules[0]={scheme: {type: fp8_e4m3, per: block}}' --set 'output.formats=[modelopt]'
