# A KV cache below 8 bits: a file of its own beside the weights, simulated where it is evaluated, carried by conversions, refused
# where it can't be.
. tests/e2e/lib.sh
low=(--set evaluate.ctx=512)
quick recipes/kv-kivi.yaml "$scratch/kivi" --dry-run "${low[@]}" >"$scratch/plan"
grep -qF 'kv cache   kivi: int2 keys by channel, int2 values by token, g32, the last 128 tokens in FP16' "$scratch/plan" ||
  fail "the plan says nothing of the cache: $(cat "$scratch/plan")"
quick recipes/kv-kivi.yaml "$scratch/kivi" "${low[@]}"
quick recipes/kv-kivi.yaml "$scratch/four" "${low[@]}" --set kv_cache.bits=4 --set kv_cache.value_bits=4
quick recipes/kv-kivi.yaml "$scratch/float" "${low[@]}" --set kv_cache=null
"$PYTHON" - "$scratch" <<'PY' || fail "the file isn't laid out as README says, or the cache changed weights"
import json, sys
from safetensors import safe_open
from safetensors.torch import load_file
with safe_open(sys.argv[1] + "/kivi/kv_cache/kv_cache.safetensors", "pt") as file:
    said = file.metadata()
    assert list(file.keys()) == []
assert json.loads(said.pop("scheme")) == {"type": "kivi", "bits": 2, "value_bits": 2, "group_size": 32, "window": 128}
assert said.pop("model").startswith("xxh3-128:")
assert said == {"format": "lathe-kv-cache", "version": "1", "layers": "6", "kv_heads": "2", "head_dim": "64"}, said
kivi, plain = (load_file(f"{sys.argv[1]}/{name}/model.safetensors") for name in ("kivi", "float"))
assert kivi.keys() == plain.keys() and all(kivi[name].equal(plain[name]) for name in plain)
PY
holds "$scratch/kivi/config.json" "r['quantization_config']['kv_cache_scheme'] is None"
holds "$scratch/kivi/report.json" "[row['block'] for row in r['kv_cache']] == [0, 1, 2, 3, 4, 5] and r['kv_cache'][0]['k_scale'] is None"
holds "$scratch/kivi/report.json" "any('no engine reads a kivi cache by itself' in w for w in r['warnings'])"
holds "$scratch/kivi/manifest.json" "'kv_cache/kv_cache.safetensors' in r['files']"
[[ ! -e $scratch/float/kv_cache ]] || fail "a cache in floating point has a file"
# Fewer bits cost more, in the run's own evaluation and in eval alike.
"$PYTHON" - "$scratch" <<'PY' || fail "the evaluation doesn't show the cache"
import json, sys
two, four, plain = (json.load(open(f"{sys.argv[1]}/{name}/report.json"))["evaluation"]["kl_mean"] for name in ("kivi", "four", "float"))
print("mean KL:", plain, four, two)
assert plain < four < 1.3 * plain < two < 10 * plain
PY
score() { "$QUANTIZE" eval --text data/text/evaluation.txt --ctx 512 --rows 4 --device cpu --json "$@"; }
score --model "$scratch/kivi" --reference "$MODEL" >"$scratch/eval.json"
run=$(value "$scratch/kivi/report.json" "r['evaluation']['kl_mean']"); again=$(value "$scratch/eval.json" "r['kl_mean']")
"$PYTHON" -c "import sys; sys.exit(not abs($run - $again) <= 1e-6 * $again)" || fail "report says KL $run, eval says $again"
holds "$scratch/eval.json" "4 < r['kv_cache']['bits_per_value'] < 8 and r['kv_cache']['scheme'].startswith('kivi: int2')"
# Of another folder's weights, the same model's: only the cache is lost.
score --model "$MODEL" --reference "$MODEL" --kv-cache "$scratch/kivi/kv_cache/kv_cache.safetensors" >"$scratch/alone.json"
holds "$scratch/alone.json" "0 < r['kl_mean'] < $again and r['kv_cache']['scheme'].startswith('kivi: int2')"
"$QUANTIZE" inspect "$scratch/kivi" | grep -qF 'KV cache: kivi: int2 keys by channel' || fail "inspect says nothing of the cache"
"$QUANTIZE" verify "$scratch/kivi" --reference "$MODEL" >/dev/null || fail "a fresh artefact isn't verified"

# Conversion carries it; what isn't a folder can't.
"$QUANTIZE" convert --model "$scratch/kivi" --to gptq --output "$scratch/gptq" --quiet
cmp "$scratch/kivi/kv_cache/kv_cache.safetensors" "$scratch/gptq/kv_cache/kv_cache.safetensors"
score --model "$scratch/gptq" --reference "$MODEL" >"$scratch/converted.json"
[[ $(value "$scratch/converted.json" "r['kl_mean']") == "$again" ]] || fail "the conversion changed the result"
refuses 2 'format gguf:Q4_0: kv_cache: llama.cpp has no kivi cache' "$QUANTIZE" convert --model "$scratch/kivi" --to gguf:Q4_0 --output "$scratch/no"
# Without calibration, which it doesn't need.
quick recipes/rtn.yaml "$scratch/plain" --set calibration=null --set 'kv_cache={type: kivi}' "${low[@]}"
holds "$scratch/plain/report.json" "len(r['kv_cache']) == 6"
score --model "$scratch/plain" >"$scratch/plain.json"
holds "$scratch/plain.json" "r['kv_cache']['scheme'].startswith('kivi')"

# Damage is seen: by verify, and where it is opened.
cp -r "$scratch/kivi" "$scratch/damaged"
sed -i 's/window\\":128/window\\":192/' "$scratch/damaged/kv_cache/kv_cache.safetensors"
status=0; "$QUANTIZE" verify "$scratch/damaged" >"$scratch/said" 2>&1 || status=$?
((status == 3)) && grep -qF 'the last 192 tokens' "$scratch/said" || fail "verify took another window: $status, $(cat "$scratch/said")"
sed -i 's/window\\":192/window\\":100/' "$scratch/damaged/kv_cache/kv_cache.safetensors"
refuses 2 "window 100 isn't a multiple of group_size 32" score --model "$scratch/damaged"
rm -r "$scratch/damaged/kv_cache"
status=0; "$QUANTIZE" verify "$scratch/damaged" >"$scratch/said" 2>&1 || status=$?
((status == 3)) && grep -qF 'in floating point' "$scratch/said" || fail "verify didn't miss the file: $status, $(cat "$scratch/said")"
checkpoint "$scratch/other" llama '{"num_key_value_heads": 2, "head_dim": 64, "hidden_size": 256, "num_hidden_layers": 6}'
refuses 2 'it was made for another model' score --model "$scratch/other" --kv-cache "$scratch/kivi/kv_cache/kv_cache.safetensors"
refuses 2 'no/such.safetensors' score --model "$MODEL" --kv-cache no/such.safetensors

# With parameters from the calibration: each method's own, the same in every run, read back by eval.
for method in kvquant skvq; do
  quick "recipes/kv-$method.yaml" "$scratch/$method" "${low[@]}"
  quick "recipes/kv-$method.yaml" "$scratch/$method.again" "${low[@]}" --set evaluate=null
  cmp "$scratch/$method/kv_cache/kv_cache.safetensors" "$scratch/$method.again/kv_cache/kv_cache.safetensors"
  cmp "$scratch/$method/model.safetensors" "$scratch/float/model.safetensors" || fail "$method changed weights"
  score --model "$scratch/$method" --reference "$MODEL" >"$scratch/$method.json"
  run=$(value "$scratch/$method/report.json" "r['evaluation']['kl_mean']"); again=$(value "$scratch/$method.json" "r['kl_mean']")
  "$PYTHON" -c "import sys; sys.exit(not abs($run - $again) <= 1e-6 * $again)" || fail "$method: report says KL $run, eval says $again"
  "$QUANTIZE" verify "$scratch/$method" --reference "$MODEL" >/dev/null || fail "a fresh artefact of $method isn't verified"
  "$QUANTIZE" convert --model "$scratch/$method" --to gptq --output "$scratch/$method.gptq" --quiet
  cmp "$scratch/$method/kv_cache/kv_cache.safetensors" "$scratch/$method.gptq/kv_cache/kv_cache.safetensors"
  refuses 2 'calibration: null, but kv_cache works on activations' "$QUANTIZE" --recipe recipes/rtn.yaml --device cpu --dry-run \
    --output "$scratch/no" --set calibration=null --set "kv_cache={type: $method}"
done
"$PYTHON" - "$scratch" <<'PY' || fail "parameters aren't laid out as README says"
import sys
from safetensors.torch import load_file
kvquant, skvq = (load_file(f"{sys.argv[1]}/{name}/kv_cache/kv_cache.safetensors") for name in ("kvquant", "skvq"))
shapes = {"key_lower": [128], "key_upper": [128], "key_levels": [16], "value_levels": [16]}
expected = {f"model.layers.{b}.self_attn.{name}": shape for b in range(6) for name, shape in shapes.items()}
assert {name: list(tensor.shape) for name, tensor in kvquant.items()} == expected
for b in range(6):
    for side in ("key", "value"):
        order, begins, clip = (skvq[f"model.layers.{b}.self_attn.{side}_{name}"] for name in ("order", "begins", "clip"))
        assert sorted(order.tolist()) == list(range(128)) and begins[0] == 0 and begins[-1] == 128 and len(clip) == len(begins) - 1 == 2
PY
holds "$scratch/kvquant.json" "4.3 < r['kv_cache']['bits_per_value'] < 5"
"$PYTHON" - "$scratch" <<'PY' || fail "the evaluations don't show the methods"
import json, sys
plain, kvquant, skvq = (json.load(open(f"{sys.argv[1]}/{name}/report.json"))["evaluation"]["kl_mean"] for name in ("float", "kvquant", "skvq"))
print("mean KL:", plain, kvquant, skvq)
assert plain < kvquant < 1.6 * plain < skvq < 10 * plain
PY
# SKVQ's 1.5 bits: three levels, five codes in a byte.
quick recipes/kv-skvq.yaml "$scratch/ternary" "${low[@]}" --set kv_cache.value_bits=1.5
score --model "$scratch/ternary" --reference "$MODEL" >"$scratch/ternary.json"
holds "$scratch/ternary.json" "'int2 keys, ternary values' in r['kv_cache']['scheme']"
"$PYTHON" - "$scratch" <<'PY' || fail "1.5 bits of values aren't between 2 and none"
import json, sys
two, ternary = (json.load(open(f"{sys.argv[1]}/{name}.json")) for name in ("skvq", "ternary"))
saved = two["kv_cache"]["bits_per_value"] - ternary["kv_cache"]["bits_per_value"]
print("mean KL:", two["kl_mean"], ternary["kl_mean"], "bits saved:", saved)
assert two["kl_mean"] < ternary["kl_mean"] < 10 * two["kl_mean"] and 0.1 < saved < (2 - 1.625) / 2
PY
refuses 2 'kv_cache.value_bits: expected 1.5, 2, 3 or 4' "$QUANTIZE" --recipe recipes/kv-skvq.yaml --device cpu --dry-run \
  --output "$scratch/no" --set kv_cache.value_bits=2.5

# KVQuant's levels by either weight: other levels of the same weights; the plan says which, and what the gradients take.
weighted() { quick recipes/kv-kvquant.yaml "$@" "${low[@]}" --set evaluate=null --set kv_cache.bits=3 --set kv_cache.value_bits=3; }
weighted "$scratch/fisher" --set kv_cache.weights=fisher
weighted "$scratch/fisher.again" --set kv_cache.weights=fisher --max-ram 1GiB
weighted "$scratch/attention" --set kv_cache.weights=attention
file=kv_cache/kv_cache.safetensors
cmp "$scratch/fisher/$file" "$scratch/fisher.again/$file" || fail "two runs by Fisher's information differ"
cmp -s "$scratch/fisher/$file" "$scratch/attention/$file" && fail "the weights of errors change no level"
cmp "$scratch/fisher/model.safetensors" "$scratch/attention/model.safetensors" || fail "they changed the model's weights"
weighted "$scratch/no" --set kv_cache.weights=fisher --dry-run >"$scratch/plan"
grep -qF "levels by Fisher's information" "$scratch/plan" && grep -q 'gradients for the KV cache' "$scratch/plan" &&
  grep -q 'what is measured beside' "$scratch/plan" || fail "the plan says nothing of the gradients: $(cat "$scratch/plan")"
weighted "$scratch/no" --set kv_cache.weights=attention --dry-run >"$scratch/plan"
grep -q 'gradients for the KV cache' "$scratch/plan" && fail "gradients are planned that nobody asked for"
# An interrupted run goes on to the same levels.
"$PYTHON" tests/tools/kill_and_resume.py "$QUANTIZE" "$scratch/killed" --kills 1 --seed 3 -- --recipe recipes/kv-kvquant.yaml --device cpu \
  --journal-every 0 --set calibration.samples=8 --set calibration.seq_len=256 --set evaluate=null --set kv_cache.weights=fisher >"$scratch/log" 2>&1 ||
  fail "a run by Fisher's information doesn't go on: $(tail -3 "$scratch/log")"
refuses 2 'kv_cache.weights: expected' "$QUANTIZE" --recipe recipes/kv-kvquant.yaml --device cpu --dry-run --output "$scratch/no" \
  --set kv_cache.weights=loss
# Parameters that can't be.
broken() {  # TENSOR 'python expression of t' 'message'
  rm -rf "$scratch/broken"; cp -r "$scratch/$1" "$scratch/broken"
  "$PYTHON" - "$scratch/broken/kv_cache/kv_cache.safetensors" "$2" "$3" <<'PY'
import sys, torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
with safe_open(sys.argv[1], "pt") as file: said = file.metadata()
tensors = load_file(sys.argv[1])
t = tensors.pop("model.layers.2.self_attn." + sys.argv[2]).clone()
changed = eval(sys.argv[3])
if changed is not None: tensors["model.layers.2.self_attn." + sys.argv[2]] = changed
save_file(tensors, sys.argv[1], said)
PY
  refuses 2 "kv_cache.safetensors: model.layers.2.self_attn.$2: $4" score --model "$scratch/broken"
}
broken kvquant key_levels 't[:8].contiguous()' 'expected F32 [16], found F32 [8]'
broken kvquant key_levels 't.flip(0)' 'expected ascending levels'
broken kvquant value_levels 'None' 'expected F32 [16], found none'
broken kvquant value_levels 't.to(torch.int32)' 'expected F32 [16], found I32 [16]'
broken kvquant key_upper 't * float("nan")' 'expected finite numbers, found a NaN or an infinity'
broken kvquant key_lower 't + 1e4' 'expected none above key_upper'
broken skvq key_order 't * 0' 'expected each channel once'
broken skvq value_begins 't * 0' 'expected groups that begin at 0, hold a channel at least, and end at 128'
broken skvq value_clip 't * 2' 'expected factors above 0 and up to 1'

plan() { "$QUANTIZE" --recipe recipes/kv-kivi.yaml --device cpu --dry-run --output "$scratch/no" "$@"; }
refuses 2 'format gguf:Q4_0: kv_cache: llama.cpp has no kivi cache' plan --set 'output.formats=["gguf:Q4_0"]' --set 'rules[0].scheme.group_size=32'
refuses 2 "kv_cache: window 32 isn't a multiple of group_size 64" plan --set kv_cache.window=32 --set kv_cache.group_size=64
refuses 2 "kv_cache: group_size 48 doesn't divide the head size, 64" plan --set kv_cache.group_size=48 --set kv_cache.window=96
refuses 2 'kv_cache.bits: expected 2 or 4' plan --set kv_cache.bits=3
refuses 2 'kv_cache.group_size: expected a multiple of 8 from 8' plan --set kv_cache.group_size=20
refuses 2 'expected a known type (float, int, kivi' plan --set kv_cache.type=kiwi
refuses 2 "kv_cache.windov" plan --set kv_cache.windov=64
checkpoint "$scratch/odd" llama '{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 36, "hidden_size": 144, "num_hidden_layers": 1}'
refuses 2 "group_size 32 doesn't divide the head size, 36" plan --model "$scratch/odd" --set 'rules[0].scheme.group_size=16'
plan --set 'kv_cache={type: kvquant}' >/dev/null
refuses 2 'kv_cache.outliers: expected a number from 0 to 0.1' plan --set 'kv_cache={type: kvquant, outliers: 0.5}'
refuses 2 'kv_cache.bits: expected 2, 3, 4 or 5' plan --set 'kv_cache={type: kvquant, bits: 8}'
refuses 2 "group_size 48 doesn't divide the 128 channels of the keys (2 heads of 64)" plan --set 'kv_cache={type: skvq, group_size: 48}'
refuses 2 'format gguf:Q4_0: kv_cache: llama.cpp has no skvq cache' plan --set 'kv_cache={type: skvq}' --set 'output.formats=["gguf:Q4_0"]' --set 'rules[0].scheme.group_size=32'
copy_model "$scratch/model"; cp -r "$scratch/kivi/kv_cache" "$scratch/model"
refuses 2 "$scratch/model: its KV cache is quantised, by kv_cache/kv_cache.safetensors: remove that" plan --model "$scratch/model"
[[ ! -e $scratch/no ]] || fail "a refused run left something"
