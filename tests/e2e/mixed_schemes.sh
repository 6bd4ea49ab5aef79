# Two rules, two schemes, asymmetric included, several shards: one artefact that reads back.
. tests/e2e/lib.sh
cat >"$scratch/mixed.yaml" <<Y
model: $MODEL
output: {path: $scratch/out, shard_size: 2MB}
calibration: {data: [{path: data/text/calibration.txt}], samples: 8, seq_len: 256}
transforms: [{awq: {grid: 10, clip: true}}]
rules:
  - {targets: [mlp], scheme: {type: int, bits: 4, group_size: 64, symmetric: false}, solver: {rtn: {}}}
  - {targets: [attention], scheme: {type: int, bits: 8, group_size: -1, symmetric: true}, solver: {rtn: {}}}
ignore: [lm_head, '/layers\.5\.mlp/']
evaluate: {text: data/text/evaluation.txt, ctx: 256, rows: 4}
Y
"$QUANTIZE" --recipe "$scratch/mixed.yaml" --device cpu --quiet
[[ -s $scratch/out/model.safetensors.index.json ]] || fail "no index, though the output has several shards"
holds "$scratch/out/config.json" "len(r['quantization_config']['config_groups']) == 2"
holds "$scratch/out/config.json" "'model.layers.5.mlp.down_proj' in r['quantization_config']['ignore']"
holds "$scratch/out/report.json" "r['evaluation']['kl_mean'] < 0.05"
# How to load it names whoever has a kernel for both schemes; with one that SGLang has none for, it is left out, and said.
for file in README.md report.md; do
  grep -q 'vllm serve' "$scratch/out/$file" && grep -q 'sglang.launch_server' "$scratch/out/$file" || fail "$file: $(grep -A30 'How to load' "$scratch/out/$file")"
done
"$QUANTIZE" --recipe "$scratch/mixed.yaml" --device cpu --quiet --output "$scratch/three" --set rules[0].scheme.bits=3 --set 'rules[0].scheme.symmetric=true' --set evaluate=null
for file in README.md report.md report.html; do
  grep -q 'With vLLM with humming only' "$scratch/three/$file" || fail "$file: $(grep -A30 'How to load' "$scratch/three/$file")"
  ! grep -q 'sglang.launch_server' "$scratch/three/$file" || fail "$file tells of SGLang, which has no kernel for 3 bits"
done
grep -q 'SGLang.* not load all of it' "$scratch/three/report.md" || fail "$(grep -A30 'How to load' "$scratch/three/report.md")"
