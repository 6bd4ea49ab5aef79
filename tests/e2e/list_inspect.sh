# `list` names what there is; `inspect` shows an FP16 folder and an artefact.
. tests/e2e/lib.sh
"$QUANTIZE" list >"$scratch/list"
for word in rtn awq compressed-tensors llama mistral qwen2 qwen3 .parquet .safetensors; do grep -qw -- "$word" "$scratch/list" || fail "list lacks $word"; done
"$QUANTIZE" inspect "$MODEL" >"$scratch/model"
grep -q "model.layers.0.self_attn.q_proj.weight" "$scratch/model" || fail "inspect lacks a tensor"
quick recipes/rtn.yaml "$scratch/out" "${symmetric[@]}"
"$QUANTIZE" inspect "$scratch/out" >"$scratch/artefact"
grep -q "int4 sym g128" "$scratch/artefact" || fail "inspect doesn't show the scheme"
"$QUANTIZE" list --json >"$scratch/list.json"
holds "$scratch/list.json" '[o["name"] for o in r["observers"]] == [o for s in r["solvers"] if s["name"] == "rtn" for o in s["options"] if o["name"] == "range"][0]["choices"]'
holds "$scratch/list.json" 'len(r["observers"]) == 5'
