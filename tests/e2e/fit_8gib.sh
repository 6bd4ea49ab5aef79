# recipes/fit-8gib.yaml runs as it is shipped, but for less text; and plans what its comment says of models of 3, 8 and 12 billion
# parameters.
. tests/e2e/lib.sh
fast=(--device cpu --set calibration.samples=12 --set calibration.seq_len=128 --set sensitivity.held_out=2)
"$QUANTIZE" --recipe recipes/fit-8gib.yaml --output "$scratch/out" "${fast[@]}" --quiet --set evaluate.rows=4
# A small model's weights all get the most bits that there are, and it runs.
holds "$scratch/out/budget.json" "r['budget'] == {'vram': 8 << 30, 'context': 8192, 'batch': 1} and {g['candidate'] for g in r['groups']} == {'int8 asym g128, gptq'}"
holds "$scratch/out/report.json" "r['evaluation']['kl_mean'] < 0.01 and r['memory']['peak']['ram'] > 0"
"$QUANTIZE" verify "$scratch/out" --reference "$MODEL" >/dev/null
"$QUANTIZE" --recipe "$scratch/out/chosen.yaml" --output "$scratch/again" --device cpu --quiet --set evaluate=null
cmp "$scratch/out/model.safetensors" "$scratch/again/model.safetensors"

# Shapes of Llama 3.2 3B, Llama 3 8B and Mistral NeMo 12B.
plan() {  # NAME BLOCKS SHAPE
  "$PYTHON" tests/tools/make_sparse_model.py "$scratch/$1" --blocks "$2" --dense-blocks 0 --rows 8 --tokenizer "$MODEL" --shape "$3" >/dev/null
  "$QUANTIZE" --recipe recipes/fit-8gib.yaml --model "$scratch/$1" --output "$scratch/none" "${fast[@]}" --dry-run --json --max-ram 60GB --max-disk 2TB
}
heads='"num_key_value_heads": 8, "head_dim": 128'
plan 3b 28 "{\"hidden_size\": 3072, \"intermediate_size\": 8192, \"num_attention_heads\": 24, $heads}" >"$scratch/3b.json"
holds "$scratch/3b.json" "8 < r['budget']['stand_in']['bits_per_weight'] < 8.25 and {l['scheme'] for l in r['linears'] if 'scheme' in l} == {'int8 asym g128'}"
plan 8b 32 "{\"hidden_size\": 4096, \"intermediate_size\": 14336, \"num_attention_heads\": 32, $heads}" >"$scratch/8b.json"
holds "$scratch/8b.json" "4 < r['budget']['stand_in']['bits_per_weight'] < 5 and r['budget']['stand_in']['bytes'] <= r['budget']['bytes']"
refuses 2 "the least possible with these candidates is 9.7 GiB" plan 12b 40 \
  "{\"hidden_size\": 5120, \"intermediate_size\": 14336, \"num_attention_heads\": 32, $heads, \"vocab_size\": 131072}"
