# FP8 checkpoints as published (quant_method fp8 in blocks and for a tensor, compressed-tensors', modelopt's) are evaluated, converted
# where their codes carry over, and are what recipes start from: they give the bytes of the floating-point model that they stand for.
. tests/e2e/lib.sh
make() { "$PYTHON" tests/tools/make_fp8_model.py "$@" || fail "no model: $*"; }
make quantise "$MODEL" "$scratch/blocks" --block 128 128
make quantise "$MODEL" "$scratch/powers" --block 100 96 --scales powers --stored bfloat16
make quantise "$MODEL" "$scratch/static" --static
quick recipes/fp8-block.yaml "$scratch/compressed" --set evaluate=null
quick recipes/fp8-static.yaml "$scratch/opt" --set evaluate=null --set 'output.formats=[modelopt]'
for kind in blocks static compressed opt; do make dequantise "$scratch/$kind" "$scratch/$kind-float"; done
make dequantise "$scratch/powers" "$scratch/powers-float" --dtype bfloat16

# both KIND NAME RECIPE [flags...]: a run from FP8 and one from what it stands for. Where that is in the same type, all bytes are the same;
# where it had to be FP32, those of quantised linears.
both() {
  local kind=$1 name=$2 recipe=$3; shift 3
  for source in "$kind" "$kind-float"; do
    "$QUANTIZE" --recipe "$recipe" --model "$scratch/$source" --output "$scratch/$source-$name" --device cpu --quiet --set evaluate=null \
      --set output.scale_dtype=F16 "$@"
  done
  "$PYTHON" - "$scratch/$kind-$name" "$scratch/$kind-float-$name" <<'PY' || fail "$kind, $name: other tensors than from floating point"
import pathlib, sys, torch
from safetensors.torch import load_file
first, second = (pathlib.Path(folder) / "model.safetensors" for folder in sys.argv[1:])
if "powers" in sys.argv[1]:
    assert first.read_bytes() == second.read_bytes()
a, b = load_file(first), load_file(second)
assert a.keys() == b.keys()
quantised = [name for name in a if "_proj." in name and not name.endswith("_proj.weight")]
assert len(quantised) >= 84
for name in quantised:
    assert torch.equal(a[name], b[name]), name
PY
}
few=(--set calibration.samples=2 --set calibration.seq_len=128)
for kind in powers static compressed opt; do both "$kind" rtn recipes/rtn.yaml "${few[@]}"; done
both blocks gptq recipes/gptq.yaml "${few[@]}"
both opt hqq recipes/rtn.yaml --set calibration=null --set 'output.formats=[hqq]' --set 'rules=[{targets: [linear], scheme: {bits: 4, group_size: 64, symmetric: false, zero_point: real}, solver: {hqq: {}}}]'
"$PYTHON" - "$scratch/opt-hqq" "$scratch/blocks-gptq" <<'PY' || fail "something of FP8 was left"
import json, pathlib, sys
from safetensors import safe_open
for folder in map(pathlib.Path, sys.argv[1:]):
    assert not (folder / "hf_quant_config.json").exists()
    assert json.loads((folder / "config.json").read_text())["quantization_config"]["quant_method"] in ("hqq", "compressed-tensors", "gptq")
    with safe_open(folder / "model.safetensors", "pt") as tensors:
        for name in tensors.keys():
            assert "scale_inv" not in name and "input_scale" not in name, name
            assert not tensors.get_slice(name).get_dtype().startswith("F8"), name
PY

# What stays in floating point is in the model's type; the report says what losses are against; verify finds all of it again.
quick recipes/rtn.yaml "$scratch/kept" --model "$scratch/blocks" "${few[@]}" --set 'ignore=[lm_head, down_proj]' 2>"$scratch/err" >"$scratch/out"
holds "$scratch/kept/report.json" "any('is quantised already (42 linears fp8_e4m3 block 128x128)' in w and 'losses are measured against these values' in w for w in r['warnings']) and r['evaluation']['kl_mean'] < 0.5"
"$PYTHON" -c '
import sys, torch
from safetensors import safe_open
kept, model = (safe_open(f + "/model.safetensors", "pt") for f in sys.argv[1:])
name = "model.layers.3.mlp.down_proj.weight"
assert torch.equal(kept.get_tensor(name), model.get_tensor(name).bfloat16())' "$scratch/kept" "$scratch/blocks-float" || fail "a kept linear"
"$QUANTIZE" verify "$scratch/kept" --reference "$scratch/blocks" >"$scratch/verify" || fail "$(cat "$scratch/verify")"
"$QUANTIZE" --recipe recipes/rtn.yaml --model "$scratch/blocks" --output "$scratch/no" --device cpu --dry-run >"$scratch/plan"
grep -q 'the model is quantised already (42 linears fp8_e4m3 block 128x128) and is dequantised' "$scratch/plan" || fail "$(tail "$scratch/plan")"

# As it is served: inputs are rounded, too. Its codes are those of the artefact that it becomes.
measure() { "$QUANTIZE" eval --model "$1" --text data/text/evaluation.txt --ctx 128 --rows 1 --device cpu --json >"$1.json"; }
same() { [[ $(value "$1.json" "r['perplexity']") == $(value "$2.json" "r['perplexity']") ]] || fail "$1 and $2 differ"; }
for kind in blocks static; do
  "$QUANTIZE" convert --model "$scratch/$kind" --to compressed-tensors --output "$scratch/$kind-converted" --quiet
  for folder in "$kind" "$kind-converted" "$kind-float"; do measure "$scratch/$folder"; done
  same "$scratch/$kind" "$scratch/$kind-converted"
  [[ $(value "$scratch/$kind.json" "r['perplexity']") != $(value "$scratch/$kind-float.json" "r['perplexity']") ]] || fail "$kind: its inputs aren't rounded"
done
refuses 2 "fp8_e4m3 block 100x96" "$QUANTIZE" convert --model "$scratch/powers" --to compressed-tensors --output "$scratch/no"
"$QUANTIZE" inspect "$scratch/blocks" >"$scratch/inspect"
grep -q 'fp8_e4m3 block 128x128, input fp8_e4m3 dynamic per group of 128: 42 linears' "$scratch/inspect" && grep -q 'consumer: vLLM' "$scratch/inspect" || fail "$(tail -8 "$scratch/inspect")"
"$QUANTIZE" compare "$scratch/blocks" "$scratch/static" --text data/text/evaluation.txt --ctx 128 --rows 1 >"$scratch/compare"
"$QUANTIZE" advise --model "$scratch/blocks" --vram 8GiB --json >"$scratch/advice"
"$QUANTIZE" advise --model "$scratch/blocks-float" --vram 8GiB --json >"$scratch/advice-float"
[[ $(value "$scratch/advice" "r['parameters']") == $(value "$scratch/advice-float" "r['parameters']") ]] || fail "advise counts scales"

# A family that Lathe doesn't know (DeepSeek-V3 is one), weight by weight.
for kind in powers powers-float; do sed -i 's/"model_type": "llama"/"model_type": "zebra3"/' "$scratch/$kind/config.json"; done
both powers unknown recipes/rtn.yaml --set calibration=null
"$QUANTIZE" verify "$scratch/powers-unknown" --reference "$scratch/powers" >"$scratch/verify" || fail "$(cat "$scratch/verify")"

# What contradicts itself, and what is quantised in another way.
"$PYTHON" - "$scratch/blocks/config.json" <<'PY'
import json, pathlib, sys
path = pathlib.Path(sys.argv[1])
config = json.loads(path.read_text())
config["quantization_config"]["weight_block_size"] = [64, 64]
path.write_text(json.dumps(config))
PY
refuses 2 "weight_scale_inv': expected F32 [4, 4], found F32 [2, 2]" "$QUANTIZE" --recipe recipes/rtn.yaml --model "$scratch/blocks" --output "$scratch/no" --device cpu
refuses 2 "is quantised already" "$QUANTIZE" --recipe recipes/rtn.yaml --model "$scratch/static-rtn" --output "$scratch/no" --device cpu
refuses 2 "FP8 of compressed-tensors, modelopt or quant_method fp8" "$QUANTIZE" --recipe recipes/rtn.yaml --model "$scratch/static-rtn" --output "$scratch/no" --device cpu
[[ ! -e $scratch/no ]] || fail "a refused run left something"
