# `quantize convert` writes what a run straight into the format writes, from any format that holds the same codes, and says
# why where none would be exact.
. tests/e2e/lib.sh
convert() { "$QUANTIZE" convert --model "$1" --to "$2" --output "$3" --quiet "${@:4}"; }
same() {
  for file in model.safetensors config.json; do cmp "$1/$file" "$2/$file" || fail "$2/$file differs from a run's"; done
  for file in quantize_config.json quant_config.json; do
    if [[ -e $1/$file ]]; then cmp "$1/$file" "$2/$file"; else [[ ! -e $2/$file ]] || fail "$2/$file is another format's"; fi
  done
}
every() {  # every RUN FORMAT...: each format of a run from each other one
  local run=$1 from to; shift
  for from in "$@"; do
    for to in "$@"; do
      convert "$run/$from" "$to" "$scratch/converted" --overwrite
      same "$run/$to" "$scratch/converted"
    done
  done
}
rtn() { quick recipes/rtn.yaml "$1" --set evaluate=null "${symmetric[@]}" "${@:2}"; }
rtn "$scratch/sym" --set 'output.formats=[compressed-tensors, gptq, gptq-v2, awq, awq-gemv]'
every "$scratch/sym" compressed-tensors gptq gptq-v2 awq awq-gemv
rtn "$scratch/asym" --set 'output.formats=[compressed-tensors, gptq-v2, awq]' --set 'rules[0].scheme.symmetric=false' --set 'rules[0].scheme.group_size=64'
every "$scratch/asym" compressed-tensors gptq-v2 awq
rtn "$scratch/mixed" --set 'output.formats=[compressed-tensors, gptq]' --set "ignore=[lm_head, '/layers\\.5\\.mlp/']" \
  --set 'rules=[{targets: [mlp], scheme: {bits: 3, group_size: 64}, solver: {rtn: {}}}, {targets: [attention], scheme: {bits: 8, group_size: -1}, solver: {rtn: {}}}]'
every "$scratch/mixed" compressed-tensors gptq
# A warning stands in the report of the format that it is about, and in no other's.
holds "$scratch/mixed/gptq/report.json" "any('4 and 8 bits' in w for w in r['warnings'])"
holds "$scratch/mixed/compressed-tensors/report.json" "not any('GPTQ' in w or '4 and 8 bits' in w for w in r['warnings'])"
"$QUANTIZE" inspect "$scratch/mixed/compressed-tensors" >"$scratch/mixed_said"
grep -qF 'consumer: vLLM (int8 sym channel): Marlin, ok for TP 1' "$scratch/mixed_said" || fail "no word on the 8-bit linears: $(grep consumer "$scratch/mixed_said")"
grep -qF 'consumer: vLLM with humming (int3 sym g64): Humming, ok' "$scratch/mixed_said" || fail "no word on the 3-bit linears"

# Where it came from is kept, and said.
holds "$scratch/converted/manifest.json" "r['converted']['from'] == 'gptq' and r['converted']['to'] == 'gptq' and r['recipe']['rules']"
holds "$scratch/converted/report.json" "r['converted']['to'] == 'gptq' and len(r['linears']) == 39"
convert "$scratch/sym/gptq" awq "$scratch/card"
grep -qx -- '- awq' "$scratch/card/README.md" && ! grep -qx -- '- gptq' "$scratch/card/README.md" || fail "tags of the card: $(head -12 "$scratch/card/README.md")"
grep -q -- '^- vLLM: Marlin, ok for TP 1' "$scratch/card/README.md" || fail "the card says nothing of consumers"
holds "$scratch/card/manifest.json" "'report.md' in r['reports'] and 'README.md' in r['files'] and 'report.md' not in r['files']"
grep -q GPTQModel "$scratch/converted/report.md" || fail "report.md says nothing about loading"
# Shards of a chosen size, and back.
convert "$scratch/sym/gptq" awq "$scratch/shards" --shard-size 2MB
[[ -s $scratch/shards/model.safetensors.index.json ]] || fail "one shard, though 2 MB were asked for"
convert "$scratch/shards" gptq "$scratch/whole"
same "$scratch/sym/gptq" "$scratch/whole"

# Kernel layouts of a finished artefact: the folder that a run writes beside it, from any format.
rtn "$scratch/layouts" --set 'output.formats=[compressed-tensors, gptq, awq, marlin, exllama]'
holds "$scratch/layouts/layouts/manifest.json" "{'marlin/layout.json', 'exllama/layout.json'} <= r['files'].keys()"
for from in compressed-tensors gptq awq; do
  for layout in marlin exllama; do
    convert "$scratch/layouts/$from" $layout "$scratch/layout" --overwrite
    diff -r "$scratch/layouts/layouts/$layout" "$scratch/layout" || fail "$layout of $from differs from the run's"
  done
done
# And back: a layout holds the linears, the artefact beside it the rest.
for layout in marlin exllama; do
  for to in compressed-tensors gptq awq; do
    convert "$scratch/layouts/layouts/$layout" $to "$scratch/back" --overwrite
    same "$scratch/layouts/$to" "$scratch/back"
  done
done
holds "$scratch/back/manifest.json" "r['converted']['from'] == 'exllama' and r['converted']['to'] == 'awq' and r['recipe']['rules']"
convert "$scratch/layouts/layouts/marlin" exllama "$scratch/layout" --overwrite
diff -r "$scratch/layouts/layouts/exllama" "$scratch/layout" || fail "exllama out of marlin differs from the run's"
for layout in awq-gemv-layout awq-gemv-fast-layout trtllm machete exllama; do
  convert "$scratch/asym/awq" $layout "$scratch/asym/awq/layouts/$layout"
  convert "$scratch/asym/awq/layouts/$layout" awq "$scratch/back" --overwrite
  same "$scratch/asym/awq" "$scratch/back"
done
refuses 2 "is the model's own folder" convert "$scratch/layouts/layouts/marlin" gptq "$scratch/layouts/awq" --overwrite
refuses 2 'layout awq-gemv-layout: AWQ-GEMV' convert "$scratch/layouts/layouts/marlin" awq-gemv-layout "$scratch/no"
mkdir -p "$scratch/apart/from" && cp -r "$scratch/layouts/layouts/marlin" "$scratch/apart/from/it"
refuses 2 'a kernel layout holds quantised linears alone' convert "$scratch/apart/from/it" gptq "$scratch/no"
convert "$scratch/asym/awq" marlin "$scratch/asym/awq/layouts/marlin"  # beside the artefact itself, which stays one
"$QUANTIZE" inspect "$scratch/asym/awq" >"$scratch/inspect"
grep -q 'int4 asym g64: 42 linears' "$scratch/inspect" || fail "layouts beside it broke the artefact: $(tail -5 "$scratch/inspect")"
refuses 2 'layout machete: Machete: int3 sym g64' convert "$scratch/mixed/gptq" machete "$scratch/no"
grep -q 'machete_prepacked_layout' "$scratch/stderr" || fail "the rule has no source: $(cat "$scratch/stderr")"
refuses 2 'layout nvfp4-swizzled' convert "$scratch/sym/gptq" nvfp4-swizzled "$scratch/no"

# AutoGPTQ's folders of before config.json told: the same codes, and who doesn't read them.
cp -r "$scratch/sym/gptq" "$scratch/older"
"$PYTHON" - "$scratch/older" <<'PY'
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
config = json.loads((folder / "config.json").read_text())
quantization = config.pop("quantization_config")
(folder / "config.json").write_text(json.dumps(config))
(folder / "quantize_config.json").write_text(json.dumps({key: quantization[key] for key in ("bits", "group_size", "sym", "desc_act")}))
(folder / "model.safetensors").rename(folder / "gptq_model-4bit-128g.safetensors")
PY
convert "$scratch/older" gptq "$scratch/newer"
same "$scratch/sym/gptq" "$scratch/newer"
"$QUANTIZE" inspect "$scratch/older" >"$scratch/said"
grep -q 'int4 sym g128: 42 linears' "$scratch/said" && grep -q 'transformers: does not read it: it looks in config.json alone' "$scratch/said" ||
  fail "inspect of AutoGPTQ's folder: $(tail -12 "$scratch/said")"
score() { "$QUANTIZE" eval --model "$1" --text data/text/evaluation.txt --rows 2 --ctx 64 --device cpu --json >"$scratch/score" && value "$scratch/score" "r['perplexity']"; }
[[ $(score "$scratch/older") == "$(score "$scratch/newer")" ]] || fail "they aren't scored alike"

# Out of GGUF: ternary blocks are integers of 2 bits; blocks that mean more say so, each type by its own reason, also beside
# others that could be carried over.
quick recipes/gguf.yaml "$scratch/blocks" --set evaluate=null --set calibration=null --set 'output.formats=["gguf:TQ2_0","gguf:Q4_K_M","gguf:IQ4_XS","gguf:Q4_1"]'
block() { echo "$scratch/blocks/gguf-$1"/*.gguf; }
convert "$(block TQ2_0)" compressed-tensors "$scratch/ternary"
"$QUANTIZE" inspect "$scratch/ternary" | grep -q 'int2 sym g256: 42 linears' || fail "ternary blocks: $("$QUANTIZE" inspect "$scratch/ternary" | tail -5)"
refuses 2 'is Q4_K, which scales each group by an integer times an FP16 number' convert "$(block Q4_K_M)" compressed-tensors "$scratch/no"
refuses 2 'is IQ4_XS, which has 16 uneven levels' convert "$(block IQ4_XS)" gptq-v2 "$scratch/no"
refuses 2 'is Q4_1, which adds a real minimum' convert "$(block Q4_1)" marlin "$scratch/no"

# What would not be exact, or makes no sense, is refused before anything is written.
convert "$scratch/asym/awq" gptq "$scratch/first"
convert "$scratch/first" awq "$scratch/converted" --overwrite
same "$scratch/asym/awq" "$scratch/converted"
cp -r "$scratch/asym/gptq-v2" "$scratch/zero"
"$PYTHON" - "$scratch/zero/model.safetensors" <<'PY'
import sys
from safetensors import safe_open
from safetensors.torch import save_file
with safe_open(sys.argv[1], "pt") as file:
    tensors = {name: file.get_tensor(name) for name in file.keys()}
tensors["model.layers.3.mlp.up_proj.qzeros"][2, 1] &= ~0xf0  # group 2 of output 9
save_file(tensors, sys.argv[1], metadata={"format": "pt"})
PY
refuses 2 'model.layers.3.mlp.up_proj: the zero point at [9, 2] (output, group) is 0' convert "$scratch/zero" gptq "$scratch/no"
# Engines stack q, k and v: where one of them stands in floating point they can't, llama.cpp can, and inspect says so.
cp -r "$scratch/sym/compressed-tensors" "$scratch/half"
"$PYTHON" - "$scratch/half" "$MODEL" <<'PY'
import json, pathlib, sys
from safetensors.torch import load_file, save_file
folder, name = pathlib.Path(sys.argv[1]), "model.layers.2.self_attn.k_proj"
tensors = load_file(folder / "model.safetensors")
kept = {key: tensor for key, tensor in tensors.items() if not key.startswith(name + ".")}
kept[name + ".weight"] = load_file(pathlib.Path(sys.argv[2]) / "model.safetensors")[name + ".weight"]
save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
config = json.loads((folder / "config.json").read_text())
config["quantization_config"]["ignore"].append(name)
(folder / "config.json").write_text(json.dumps(config))
PY
halves="'model.layers.2.self_attn.q_proj' is int4 sym g128, 'model.layers.2.self_attn.k_proj' floating point"
refuses 2 "$halves" convert "$scratch/half" gptq "$scratch/no"
refuses 2 "$halves" convert "$scratch/half" marlin "$scratch/no"
convert "$scratch/half" gguf:Q8_0 "$scratch/whole_types"
"$QUANTIZE" inspect "$scratch/half" >"$scratch/said"
grep -qF "vLLM: not with Marlin: $halves" "$scratch/said" && grep -q 'transformers: reads it' "$scratch/said" ||
  fail "inspect of half a stack: $(grep consumer "$scratch/said")"
refuses 2 'format awq: bits' convert "$scratch/mixed/gptq" awq "$scratch/no"
refuses 2 'format spqr' convert "$scratch/asym/awq" spqr "$scratch/no"
refuses 2 'is in floating point' convert "$MODEL" awq "$scratch/no"
refuses 2 "unknown output format 'gtpq'" convert "$scratch/asym/awq" gtpq "$scratch/no"
refuses 2 "did you mean 'gguf:Q4_0'?" convert "$scratch/asym/awq" gguf:q40 "$scratch/no"
refuses 2 'format gguf:Q4_0' convert "$scratch/asym/awq" gguf:q4_0 "$scratch/no"
refuses 2 '--pre-tokenizer' convert "$scratch/asym/awq" gptq-v2 "$scratch/no" --pre-tokenizer qwen2
refuses 2 'exists' convert "$scratch/asym/awq" gptq-v2 "$scratch/whole"
refuses 2 "is the model's own folder" convert "$scratch/asym/awq" gptq-v2 "$scratch/asym/awq" --overwrite
refuses 2 'expected --to FORMAT' "$QUANTIZE" convert --model "$scratch/asym/awq" --output "$scratch/no"
[[ ! -e $scratch/no ]] || fail "a refused conversion left something"
# A broken artefact is one clear line, and leaves nothing either.
cp -r "$scratch/sym/gptq" "$scratch/broken"
truncate -s -100 "$scratch/broken/model.safetensors"
refuses 2 'model.safetensors' convert "$scratch/broken" awq "$scratch/no"
[[ -z $(find "$scratch" -maxdepth 1 -name '.no*') ]] || fail "working folders are left"
