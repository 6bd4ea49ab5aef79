# `quantize advise` reads headers alone, says what a model takes, and its sizes are those that the recipes write.
. tests/e2e/lib.sh
advise() { "$QUANTIZE" advise "$@" --json; }
advise --model "$MODEL" --gpu "rtx 4000 ada" --context 2048 --batch 4 >"$scratch/a.json"
a=$scratch/a.json
holds "$a" "r['gpu']['name'] == 'RTX 4000 Ada' and r['gpu']['generation'] == 'Ada' and r['memory_bytes'] == 20 * 10**9"
matches lib/report/advise.schema.json "$a"
config=$MODEL/config.json
holds "$a" "r['kv_cache'][0]['bytes'] == 2 * $(value "$config" "r['num_hidden_layers'] * r['num_key_value_heads'] * r.get('head_dim', r['hidden_size'] // r['num_attention_heads'])") * 2048 * 4 * 2"
holds "$a" "[row['bytes'] for row in r['kv_cache']] == [r['kv_cache'][0]['bytes'] // n for n in (1, 2, 4, 8)]"
holds "$a" "r['advice']['recipe'] == 'recipes/awq.yaml' and r['advice']['gpus'] == 1"
# Within 1 % of what the plans of these recipes come to.
for pair in INT4:awq.yaml INT8:smoothquant.yaml FP8:fp8-dynamic.yaml NVFP4:nvfp4.yaml; do
  quick "recipes/${pair#*:}" "$scratch/${pair%:*}" --set evaluate=null >/dev/null
  folder=$scratch/${pair%:*}; [[ -f $folder/report.json ]] || folder=$(dirname "$(find "$folder" -name report.json | sort | tail -1)")
  wrote=$(value "$folder/report.json" "r['totals']['bytes_after']")
  holds "$a" "abs(next(w['bytes'] for w in r['weights'] if w['name'] == '${pair%:*}') / $wrote - 1) < 0.01"
done
# 100 GB of a family that Lathe doesn't know: headers alone, which take less than a second; to read the rest would take a minute.
"$PYTHON" - "$scratch/large" <<'END'
import json, os, struct, sys
folder, layers, hidden, wide = sys.argv[1], 100, 8192, 32768
os.mkdir(folder)
tensors, offset = {}, 0
def add(name, *shape):
    global offset
    size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
    tensors[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
    offset += size
add("model.embed_tokens.weight", 32000, hidden)
for layer in range(layers):
    for name, shape in {"self_attn.q_proj": (hidden, hidden), "mlp.up_proj": (wide, hidden), "mlp.down_proj": (hidden, wide)}.items():
        add(f"model.layers.{layer}.{name}.weight", *shape)
header = json.dumps(tensors).encode()
header += b" " * (-len(header) % 8)
with open(f"{folder}/model.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(header)) + header)
    file.truncate(8 + len(header) + offset)  # sparse
json.dump({"model_type": "novel", "hidden_size": hidden, "intermediate_size": wide, "num_hidden_layers": layers, "num_attention_heads": 64,
           "vocab_size": 32000, "kv_lora_rank": 512, "qk_rope_head_dim": 64}, open(f"{folder}/config.json", "w"))
END
(ulimit -t 10; advise --model "$scratch/large" --gpu L4 --context 4096 >"$scratch/large.json") || fail "more than 10 s of the processor"
holds "$scratch/large.json" "r['parameters'] == 32000 * 8192 + 100 * (8192 * 8192 + 2 * 8192 * 32768) and r['kv_cache'][0]['bytes'] == 100 * (512 + 64) * 4096 * 2"
holds "$scratch/large.json" "r['advice']['gpus'] == 2 and r['advice']['weights'] == 'INT4'"
# What latent attention keeps stands on both.
holds "$scratch/large.json" "r['tensor_parallel']['degrees'] == [1, 2, 4, 8, 16, 32, 64] and r['advice']['cache_copies'] == 2"
# A mixture of experts: what a token reads, and a recipe that its plan accepts, told what it needs (zero points of experts are refused).
"$PYTHON" tests/tools/make_sparse_experts.py "$scratch/experts" --blocks 2 --tokenizer "$MODEL" >/dev/null
advise --model "$scratch/experts" --gpu "A100 80GB SXM" --context 4096 >"$scratch/experts.json"
e=$scratch/experts.json
matches lib/report/advise.schema.json "$e"
holds "$e" "r['experts'] == {'count': 128, 'per_token': 8, 'read_share': 0.0625}"
holds "$e" "(lambda w: abs(r['advice']['bytes_read_in_a_step'] - (w['bytes'] - w['expert_bytes'] * 120 / 128 + r['kv_cache'][0]['bytes'])) < 10)(r['weights'][3])"
holds "$e" "r['tensor_parallel']['degrees'] == [1, 2, 4, 8, 16, 32, 64] and [w['degrees'] for w in r['weights'] if w['name'] == 'INT4'] == [[1, 2, 4]]"
holds "$e" "r['advice']['settings'] == ['rules[0].scheme.symmetric=true'] and 'INT4' == r['advice']['weights']"
"$QUANTIZE" advise --model "$scratch/experts" --gpu "A100 80GB SXM" --batch 4 >"$scratch/text"
grep -q '^speed .* of 128 experts 8 for a token, about 29 for 4 that choose evenly$' "$scratch/text" || fail "$(cat "$scratch/text")"
grep -q '^advice .*: recipes/awq.yaml --set rules\[0\].scheme.symmetric=true$' "$scratch/text" || fail "$(cat "$scratch/text")"
advise --model "$scratch/experts" --gpu B200 --context 1024 --batch 64 >"$scratch/native.json"
for json in "$e" "$scratch/native.json"; do
  mapfile -t settings < <(value "$json" "'\n'.join(word for s in r['advice']['settings'] for word in ('--set', s))")
  "$QUANTIZE" --recipe "$(value "$json" "r['advice']['recipe']")" --model "$scratch/experts" --output "$scratch/none" --device cpu --dry-run --max-ram 100GB --max-disk 2TB \
    --set evaluate=null "${settings[@]}" >"$scratch/plan" 2>&1 || fail "the plan refuses what is advised: $(cat "$scratch/plan")"
done
# Heads that don't divide: said, and no degree that a server would refuse.
checkpoint "$scratch/nine" llama "{\"vocab_size\": 32000, \"hidden_size\": 576, \"intermediate_size\": 1536, \"num_hidden_layers\": 2,
  \"num_attention_heads\": 9, \"num_key_value_heads\": 3}"
advise --model "$scratch/nine" --vram 40MB --context 256 >"$scratch/nine.json"
holds "$scratch/nine.json" "r['tensor_parallel']['degrees'] == [1, 3] and r['advice']['gpus'] == 3 and r['advice']['cache_copies'] == 1"
holds "$scratch/nine.json" "any('9 heads / 2' in w and 'vllm' in w for w in r['advice']['why'])"
"$QUANTIZE" advise --model "$scratch/nine" --vram 40MB --context 256 >"$scratch/text"
grep -q '^GPUs        vLLM divides it between 1, 3: 9 heads, 3 of keys and values$' "$scratch/text" || fail "$(cat "$scratch/text")"
# A KV cache below 16 bits: who computes with one on that GPU. And no more context than the model was made for.
holds "$a" "[[(s['type'], s['server']) for s in row.get('servers', [])] for row in r['kv_cache']] == [[], [('FP8', 'vLLM'), ('INT8', 'vLLM'), ('INT8', 'LMDeploy'), ('Q8_0', 'llama.cpp')], [('INT4', 'vLLM'), ('INT4', 'LMDeploy'), ('Q4_0', 'llama.cpp')], []]"
advise --model "$MODEL" --gpu "RTX 3090" >"$scratch/b.json"
holds "$scratch/b.json" "'FP8' not in [s['type'] for s in r['kv_cache'][1]['servers']] and all('Ampere' in s['generations'] for s in r['kv_cache'][1]['servers'])"
positions=$(value "$config" "r['max_position_embeddings']")
"$QUANTIZE" advise --model "$MODEL" --gpu L4 --context $((positions + 1)) >"$scratch/text"
grep -q "^warning     the model was made for $positions positions" "$scratch/text" || fail "$(cat "$scratch/text")"
grep -q "^KV 8 bits   FP8 in vLLM: --kv-cache-dtype fp8" "$scratch/text" || fail "$(cat "$scratch/text")"
grep -q "^KV 2 bits   no server" "$scratch/text" || fail "$(cat "$scratch/text")"
"$QUANTIZE" advise --model "$MODEL" --gpu L4 --context "$positions" >"$scratch/text"
! grep -q '^warning' "$scratch/text" || fail "$(cat "$scratch/text")"
"$QUANTIZE" advise --model "$scratch/large" --vram 20GiB | grep -q '^KV 8 bits   FP8 in vLLM (Ada, Hopper, Blackwell): ' || fail "generations aren't named"
# For people; and what is wrong. A small model fits as it is, which comes first; and no context that it was not made for.
"$QUANTIZE" advise --model "$MODEL" --vram 20GiB >"$scratch/text"
grep -q '^advice      INT4 weights' "$scratch/text" || fail "no advice"
grep -A1 '^fits        16-bit weights, as they are: ' "$scratch/text" | grep -q '^advice' || fail "$(cat "$scratch/text")"
grep -m1 '^why' "$scratch/text" | grep -q '16-bit weights would fit, too: .* the memory asks for nothing' || fail "$(cat "$scratch/text")"
grep -q "^context     $positions tokens of each sequence, all that the model was made for (there is memory for " "$scratch/text" || fail "$(cat "$scratch/text")"
refuses 2 "may be A100 40GB" "$QUANTIZE" advise --model "$MODEL" --gpu A100
refuses 2 "expected --gpu NAME or --vram SIZE, found neither" "$QUANTIZE" advise --model "$MODEL"
refuses 2 "is quantised already" "$QUANTIZE" advise --model "$scratch/INT4" --vram 20GiB

# A config.json that somebody broke: one line, whatever stands there. KEYS: a JSON object of what replaces the large one's.
broken() {
  "$PYTHON" -c 'import json,sys; c=json.load(open(sys.argv[1])); c.update(json.loads(sys.argv[2])); json.dump(c, open(sys.argv[1], "w"))' \
    "$scratch/large/config.json" "{\"num_hidden_layers\": 100, \"num_attention_heads\": 64, \"vocab_size\": 32000, $2}"
  refuses 2 "$1" "$QUANTIZE" advise --model "$scratch/large" --vram 20GiB --context 4096 --batch 4
}
config=$scratch/large/config.json
broken "$config: key 'num_hidden_layers': expected an integer from 1 to 65536, found 2147483647" '"num_hidden_layers": 2147483647'
broken "$config: key 'num_key_value_heads': expected an integer from 1 to 1073741824, found 2147483648" '"num_key_value_heads": 2147483648'
broken "$config: key 'vocab_size': expected an integer from 1 to 1073741824, found null" '"vocab_size": null'
broken "$config: key 'head_dim': expected an integer, found \"128\"" '"head_dim": "128"'
broken "4 sequences of 4096 tokens take more bytes than can be counted" '"kv_lora_rank": null, "num_key_value_heads": 1073741824, "head_dim": 1073741824'
broken "$config: key 'text_config': expected an object, found 5" '"text_config": 5'
broken "$config: key 'model_type': expected a string, found 5" '"model_type": 5'
