# `list` names what there is; `inspect` shows an FP16 folder and an artefact.
. tests/e2e/lib.sh
"$QUANTIZE" list >"$scratch/list"
for word in rtn awq compressed-tensors llama mistral qwen2 qwen3 .parquet .safetensors; do grep -qw -- "$word" "$scratch/list" || fail "list lacks $word"; done
"$QUANTIZE" inspect "$MODEL" >"$scratch/model"
grep -q "model.layers.0.self_attn.q_proj.weight" "$scratch/model" || fail "inspect lacks a tensor"
quick recipes/rtn.yaml "$scratch/out" "${symmetric[@]}"
"$QUANTIZE" inspect "$scratch/out" >"$scratch/artefact"
grep -q "int4 sym g128" "$scratch/artefact" || fail "inspect doesn't show the scheme"
grep -q "^headers alone were read" "$scratch/artefact" || fail "inspect doesn't say that it looks at no value"
# One shard by itself says of its tensors what the folder says of them.
quick recipes/rtn.yaml "$scratch/shards" "${symmetric[@]}" --set evaluate=null --set output.shard_size=2MB
"$QUANTIZE" inspect "$scratch/shards" --json >"$scratch/shards.json"
shard=$(value "$scratch/shards.json" "[t['file'] for t in r['tensors'] if 'scheme' in t][0]")
"$QUANTIZE" inspect "$scratch/shards/$shard" --json >"$scratch/shard.json"
of_shard="{t['name']: t.get('scheme') for t in json.load(open('$scratch/shards.json'))['tensors'] if t['file'] == '$shard'}"
holds "$scratch/shard.json" "{t['name']: t.get('scheme') for t in r['tensors']} == $of_shard"
holds "$scratch/shard.json" "[s['scheme'] for s in r['schemes']] == ['int4 sym g128'] and 0 < r['schemes'][0]['linears'] < 42"
binary=$(realpath "$QUANTIZE")
(cd "$scratch/shards" && "$binary" inspect "$shard") >"$scratch/said"
grep -q '^scheme: int4 sym g128: ' "$scratch/said" || fail "no line about the schemes of a shard: $(tail -3 "$scratch/said")"
cp "$scratch/shards/$shard" "$scratch/alone.safetensors"
"$QUANTIZE" inspect "$scratch/alone.safetensors" >"$scratch/said"
grep -q '.weight_packed ' "$scratch/said" || fail "a shard alone isn't listed"
"$QUANTIZE" list --json >"$scratch/list.json"
holds "$scratch/list.json" '[o["name"] for o in r["observers"]] == [o for s in r["solvers"] if s["name"] == "rtn" for o in s["options"] if o["name"] == "range"][0]["choices"]'
holds "$scratch/list.json" 'len(r["observers"]) == 5'
