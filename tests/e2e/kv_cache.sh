# A quantised KV cache: scales in the artefact, simulated where it is evaluated, carried by conversions that can, refused by formats
# that can't.
. tests/e2e/lib.sh
quick recipes/kv-fp8.yaml "$scratch/fp8" --dry-run >"$scratch/plan"
grep -qF 'kv cache   fp8 (e4m3) per tensor' "$scratch/plan" || fail "the plan says nothing of the cache: $(cat "$scratch/plan")"
quick recipes/kv-fp8.yaml "$scratch/fp8"
quick recipes/kv-fp8.yaml "$scratch/float" --set kv_cache=null
quick recipes/kv-fp8.yaml "$scratch/int8" --set 'kv_cache={type: int}'
holds "$scratch/fp8/config.json" "r['quantization_config']['kv_cache_scheme'] == {'num_bits': 8, 'type': 'float', 'symmetric': True, 'strategy': 'tensor', 'dynamic': False}"
holds "$scratch/float/config.json" "r['quantization_config']['kv_cache_scheme'] is None"
holds "$scratch/fp8/report.json" "[row['block'] for row in r['kv_cache']] == [0, 1, 2, 3, 4, 5]"
holds "$scratch/int8/report.json" "any('reads a KV cache of type float only' in w for w in r['warnings'])"
holds "$scratch/fp8/report.json" "not any('KV cache' in w for w in r['warnings'])"
"$PYTHON" - "$scratch" <<'PY' || fail "scales, or what they are beside, are wrong"
import json, sys
from safetensors.torch import load_file
fp8, plain, int8 = (load_file(f"{sys.argv[1]}/{name}/model.safetensors") for name in ("fp8", "float", "int8"))
rows = json.load(open(sys.argv[1] + "/fp8/report.json"))["kv_cache"]
scales = {f"model.layers.{row['block']}.self_attn.{k}": row[k] for row in rows for k in ("k_scale", "v_scale")}
assert fp8.keys() - plain.keys() == scales.keys(), fp8.keys() ^ plain.keys()
for name, value in scales.items():
    assert str(fp8[name].dtype) == "torch.float32" and list(fp8[name].shape) == [1] and abs(fp8[name].item() / value - 1) < 1e-6, name
    assert abs(int8[name].item() * 127.5 / (fp8[name].item() * 448) - 1) < 1e-6, name
assert all(fp8[name].equal(plain[name]) for name in plain), "the cache changed weights"
PY
# The rounding costs something, in the run's own evaluation and in eval alike; integers cost otherwise.
"$PYTHON" - "$scratch" <<'PY' || fail "the evaluation doesn't show the cache"
import json, sys
fp8, plain, int8 = (json.load(open(f"{sys.argv[1]}/{name}/report.json"))["evaluation"] for name in ("fp8", "float", "int8"))
print("mean KL:", plain["kl_mean"], fp8["kl_mean"], int8["kl_mean"])
assert len({e["kl_mean"] for e in (fp8, plain, int8)}) == 3 and max(fp8["kl_mean"], int8["kl_mean"]) < 1.5 * plain["kl_mean"]
PY
"$QUANTIZE" eval --model "$scratch/fp8" --reference "$MODEL" --text data/text/evaluation.txt --ctx 512 --rows 4 --device cpu --json >"$scratch/eval.json"
run=$(value "$scratch/fp8/report.json" "r['evaluation']['kl_mean']"); again=$(value "$scratch/eval.json" "r['kl_mean']")
"$PYTHON" -c "import sys; sys.exit(not abs($run - $again) <= 1e-6 * $again)" || fail "report says KL $run, eval says $again"
"$QUANTIZE" inspect "$scratch/fp8" | grep -qF 'KV cache: fp8 (e4m3) per tensor' || fail "inspect says nothing of the cache"
grep -qF '"kv_cache"' "$scratch/fp8/README.md" || fail "the model card says nothing of the cache"

# Conversion: kept where the format has a place, else refused.
"$QUANTIZE" convert --model "$scratch/fp8" --to compressed-tensors --output "$scratch/again" --quiet
cmp "$scratch/fp8/model.safetensors" "$scratch/again/model.safetensors" || fail "conversion to the same format changed bytes"
cmp "$scratch/fp8/config.json" "$scratch/again/config.json"
# modelopt's files and names, there and back; a cache of integers has no reader there.
quick recipes/fp8-static.yaml "$scratch/modelopt" --set 'output.formats=[modelopt]' --set 'kv_cache={type: float}'
holds "$scratch/modelopt/hf_quant_config.json" "r['quantization']['kv_cache_quant_algo'] == 'FP8'"
holds "$scratch/modelopt/config.json" "r['quantization_config']['kv_cache_scheme'] == {'num_bits': 8, 'type': 'float', 'dynamic': False}"
"$QUANTIZE" inspect "$scratch/modelopt" >"$scratch/said"
grep -qF 'KV cache: fp8 (e4m3) per tensor' "$scratch/said" || fail "inspect says nothing of modelopt's cache: $(tail -5 "$scratch/said")"
"$QUANTIZE" convert --model "$scratch/modelopt" --to compressed-tensors --output "$scratch/there" --quiet
"$QUANTIZE" convert --model "$scratch/there" --to modelopt --output "$scratch/back" --quiet
for file in model.safetensors config.json hf_quant_config.json; do cmp "$scratch/modelopt/$file" "$scratch/back/$file" || fail "$file changed on the way"; done
refuses 2 "modelopt's readers take a KV cache of type float only" quick recipes/fp8-static.yaml "$scratch/no" --set 'output.formats=[modelopt]' --set 'kv_cache={type: int}'
refuses 2 'format gptq: has no place for the scales of a quantised KV cache' "$QUANTIZE" convert --model "$scratch/fp8" --to gptq --output "$scratch/no"
plan() { "$QUANTIZE" --recipe recipes/kv-fp8.yaml --device cpu --dry-run --output "$scratch/no" "$@"; }
refuses 2 'format awq: has no place' plan --set 'output.formats=[awq]'
refuses 2 'format gguf:Q4_0: has no place' plan --set 'output.formats=["gguf:Q4_0"]' --set 'rules[0].scheme.group_size=32'
refuses 2 'calibration: null, but kv_cache works on activations' plan --set calibration=null --set 'rules[0].solver={rtn: {}}'
refuses 2 'kv_cache.bits: expected' plan --set kv_cache.bits=4
refuses 2 'kv_cache.type: expected a known type (float, int, kivi, kvquant and skvq)' plan --set kv_cache.type=fp8
refuses 2 'expected a key among type, bits and per' plan --set kv_cache.scale=3
refuses 2 'kv_cache.per: expected tensor or head' plan --set kv_cache.per=token
# A scale for each head: no larger than the one of all, which one of them has; the cache is rounded less.
quick recipes/kv-fp8.yaml "$scratch/heads" --set 'kv_cache={type: float, per: head}'
holds "$scratch/heads/config.json" "r['quantization_config']['kv_cache_scheme']['strategy'] == 'attn_head'"
holds "$scratch/heads/report.json" "any('FlashAttention backend only' in w for w in r['warnings'])"
"$PYTHON" - "$scratch" <<'PY' || fail "scales of heads are wrong"
import json, sys
from safetensors.torch import load_file
fp8, heads = (load_file(f"{sys.argv[1]}/{name}/model.safetensors") for name in ("fp8", "heads"))
count = json.load(open(sys.argv[1] + "/heads/config.json"))["num_key_value_heads"]
scales = [name for name in fp8 if name.endswith((".k_scale", ".v_scale"))]
assert scales and count > 1
for name in scales:
    assert list(heads[name].shape) == [count, 1, 1] and heads[name].max() == fp8[name].max() and heads[name].min() > 0, name
assert any(heads[name].min() < heads[name].max() for name in scales)
PY
"$QUANTIZE" convert --model "$scratch/heads" --to compressed-tensors --output "$scratch/heads-again" --quiet
cmp "$scratch/heads/model.safetensors" "$scratch/heads-again/model.safetensors" || fail "conversion changed scales of heads"
refuses 2 "one scale for all heads" quick recipes/fp8-static.yaml "$scratch/no" --set 'output.formats=[modelopt]' --set 'kv_cache={type: float, per: head}'
copy_model "$scratch/model"
"$PYTHON" - "$scratch/model/model.safetensors" <<'PY'
import sys, torch
from safetensors.torch import load_file, save_file
tensors = load_file(sys.argv[1])
tensors["model.layers.3.self_attn.k_scale"] = torch.ones(1)
save_file(tensors, sys.argv[1], {"format": "pt"})
PY
refuses 2 "tensor 'model.layers.3.self_attn.k_scale': stands in the checkpoint" plan --model "$scratch/model"
[[ ! -e $scratch/no ]] || fail "a refused run left something"
