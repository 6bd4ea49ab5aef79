# `quantize advise` reads headers alone, says what a model takes, and its sizes are those that the recipes write.
. tests/e2e/lib.sh
advise() { "$QUANTIZE" advise "$@" --json; }
advise --model "$MODEL" --gpu "rtx 4000 ada" --context 2048 --batch 4 >"$scratch/a.json"
a=$scratch/a.json
holds "$a" "r['gpu']['name'] == 'RTX 4000 Ada' and r['gpu']['generation'] == 'Ada' and r['memory_bytes'] == 20 * 10**9"
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
# 100 GB of a family that Lathe doesn't know: headers, in less than a second.
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
began=$(date +%s%N)
advise --model "$scratch/large" --gpu L4 --context 4096 >"$scratch/large.json"
took=$((($(date +%s%N) - began) / 1000000))
((took < 3000)) || fail "took $took ms"  # less than one on a machine that does nothing else
holds "$scratch/large.json" "r['parameters'] == 32000 * 8192 + 100 * (8192 * 8192 + 2 * 8192 * 32768) and r['kv_cache'][0]['bytes'] == 100 * (512 + 64) * 4096 * 2"
holds "$scratch/large.json" "r['advice']['gpus'] == 2 and r['advice']['weights'] == 'INT4'"
# For people; and what is wrong.
"$QUANTIZE" advise --model "$MODEL" --vram 20GiB | grep -q '^advice      INT4 weights' || fail "no advice"
refuses 2 "may be A100 40GB" "$QUANTIZE" advise --model "$MODEL" --gpu A100
refuses 2 "expected --gpu NAME or --vram SIZE, found neither" "$QUANTIZE" advise --model "$MODEL"
refuses 2 "is quantised already" "$QUANTIZE" advise --model "$scratch/INT4" --vram 20GiB
