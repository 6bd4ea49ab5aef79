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
