# A GGUF file whose tensors' types a budget chose, embeddings included; and types that a recipe names by itself.
. tests/e2e/lib.sh
mixed() {
  local output=$1; shift
  "$QUANTIZE" --recipe recipes/mixed-4.25bpw.yaml --output "$output" --device cpu --quiet --set output.formats=[gguf:Q4_K_M] \
    --set calibration.samples=12 --set calibration.seq_len=128 --set sensitivity.held_out=2 --set evaluate.rows=4 \
    --set 'candidates=[{gguf: q3_k}, {gguf: Q4_K}, {gguf: Q5_K}, {gguf: Q6_K}]' "$@"
}
mixed "$scratch/m" --set 'budget={bits_per_weight: 4.75}'
holds "$scratch/m/budget.json" "4.6 < r['chosen']['bits_per_weight'] <= 4.75"
holds "$scratch/m/budget.json" "{'token_embd.weight', 'blk.3.attn_v.weight', 'blk.0.ffn_down.weight'} < {g['name'] for g in r['groups']}"
holds "$scratch/m.sensitivity.json" "[g['table'] for g in r['groups'] if 'table' in g] == ['model.embed_tokens.weight']"
# What the file holds is what was chosen.
"$PYTHON" - "$scratch/m" <<'P'
import glob, json, sys
from gguf import GGUFReader
chosen = {g["name"]: g for g in json.load(open(sys.argv[1] + "/budget.json"))["groups"]}
files = [f for f in glob.glob(sys.argv[1] + "/*.gguf") if "imatrix" not in f]
tensors = {t.name: t for t in GGUFReader(files[0]).tensors}
for name, group in chosen.items():
    assert tensors[name].tensor_type.name == group["candidate"], name
    assert tensors[name].n_bytes == group["bytes"], name
P
"$QUANTIZE" verify "$scratch/m" --reference "$MODEL" >"$scratch/log" || fail "$(cat "$scratch/log")"
"$QUANTIZE" --recipe "$scratch/m/chosen.yaml" --output "$scratch/again" --device cpu --quiet
for one in "$scratch"/m/*Q4_K_M.gguf; do cmp "$one" "$scratch/again/$(basename "$one")"; done

# Types by name in a recipe of one's own.
named() { "$QUANTIZE" --recipe recipes/gguf.yaml --output "$scratch/x" --dry-run --set "output.gguf_tensor_types=$1"; }
refuses 2 "decides about no matrix of the file" named '[{tensors: /attn_x/, type: Q6_K}]'
refuses 2 "expected a type of ggml that Lathe rounds to" named '[{tensors: /attn_v/, type: Q6_J}]'
refuses 2 "a /regular expression/ on the file's names" named '[{tensors: attn_v, type: Q6_K}]'
refuses 2 "the keys 'tensors' and 'type'" named '[{tensors: /attn_v/}]'
refuses 2 "none of the formats is a gguf:... one" "$QUANTIZE" --recipe recipes/rtn.yaml --output "$scratch/x" --dry-run --set 'output.gguf_tensor_types=[{tensors: /v/, type: Q6_K}]'
refuses 2 "for format gguf:Q4_K_M; expected a type of its blocks" mixed "$scratch/x" --set 'candidates[0]={scheme: {bits: 4}}'
