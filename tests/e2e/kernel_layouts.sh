# Kernel layouts stand beside the checkpoint, with a JSON that says what they are; words that can't be are refused.
. tests/e2e/lib.sh
layouts='[compressed-tensors, marlin, machete, trtllm, trtllm-sm90, trtllm-sm100, exllama]'
quick recipes/rtn.yaml "$scratch/out" "${symmetric[@]}" --set evaluate=null --set "output.formats=$layouts" --set output.shard_size=1MB
[[ -s $scratch/out/config.json && ! -e $scratch/out/compressed-tensors ]] || fail "the checkpoint stands in the output folder itself"
for layout in marlin machete trtllm trtllm-sm90 trtllm-sm100 exllama; do
  folder=$scratch/out/layouts/$layout
  holds "$folder/layout.json" "r['layout'] == '$layout' and r['schema'] == 1 and all(r[k] for k in ('kernel', 'gpus', 'permutation', 'source'))"
  holds "$folder/layout.json" "len(r['linears']) == 42"
  holds "$folder/layout.json" "r['linears']['model.layers.0.mlp.down_proj']['shape'] == [256, 768]"
  [[ -s $folder/model.safetensors.index.json ]] || fail "$layout: no index of its shards"
done
holds "$scratch/out/layouts/marlin/layout.json" \
  "r['linears']['model.layers.0.mlp.down_proj']['tensors']['qweight'] == {'dtype': 'I32', 'shape': [48, 512]}"

# What stands in a layout is what stands in the checkpoint: the codes of one linear, by this test's own unpacking of Marlin.
"$PYTHON" - "$scratch/out" <<'PY' || fail "Marlin's codes are not the checkpoint's"
import glob, sys
import torch
from safetensors import safe_open
def read(folder, name):
    for file in glob.glob(f"{folder}/*.safetensors"):
        with safe_open(file, "pt") as shard:
            if name in shard.keys():
                return shard.get_tensor(name)
def fields(words):
    return torch.stack([words >> 4 * j & 15 for j in range(8)], -1).flatten(1)
name = "model.layers.2.self_attn.k_proj"
codes = fields(read(sys.argv[1], f"{name}.weight_packed")).T  # [in, out]
tiles = fields(read(sys.argv[1] + "/layouts/marlin", f"{name}.qweight")).reshape(-1, 1024)
place = []
for thread in range(32):
    for tile in range(4):
        place += [16 * (2 * (thread % 4) + row) + thread // 4 + 8 * half + 256 * tile for half in (0, 1) for row in (0, 1, 8, 9)]
place = torch.tensor(place).reshape(-1, 8)[:, [0, 2, 4, 6, 1, 3, 5, 7]].flatten()
back = torch.empty_like(tiles).index_copy_(1, place, tiles)
k, n = codes.shape
back = back.reshape(k // 16, n // 16, 16, 16).transpose(1, 2).reshape(k, n)
sys.exit(not torch.equal(back, codes))
PY

# A layout is read back: with the artefact beside it, it is that artefact to the byte; what stands in it is what counts.
back() { "$QUANTIZE" convert --model "$1" --to "$2" --output "$scratch/back" --quiet --overwrite --shard-size 1MB; }
same_weights() { for file in "$1"/*.safetensors "$1/config.json"; do cmp "$file" "$scratch/back/${file##*/}" || fail "out of $2: ${file##*/} differs"; done; }
for layout in marlin machete trtllm trtllm-sm90 trtllm-sm100 exllama; do
  back "$scratch/out/layouts/$layout" compressed-tensors
  same_weights "$scratch/out" $layout
done
"$QUANTIZE" inspect "$scratch/out/layouts/marlin" >"$scratch/said"
grep -q '^model.layers.0.mlp.down_proj.qweight .*int4 sym g128' "$scratch/said" && grep -q '^layout: marlin for vLLM' "$scratch/said" &&
  grep -q '^scheme: int4 sym g128: 42 linears' "$scratch/said" || fail "inspect of a layout: $(tail -5 "$scratch/said")"
"$QUANTIZE" inspect "$scratch/out/layouts/marlin" --json >"$scratch/said.json"
holds "$scratch/said.json" "r['layout'] == 'marlin' and r['schemes'][0]['linears'] == 42 and r['tensor_count'] == 84 and r['bits_per_weight'] == 4.125"
quick recipes/nvfp4.yaml "$scratch/nvfp4" --set evaluate=null --set 'output.formats=[modelopt, nvfp4-swizzled]' --set output.shard_size=1MB
back "$scratch/nvfp4/layouts/nvfp4-swizzled" modelopt
same_weights "$scratch/nvfp4" nvfp4-swizzled
refuses 2 'format awq: scheme type' back "$scratch/nvfp4/layouts/nvfp4-swizzled" awq
"$PYTHON" - "$scratch/out/layouts/marlin" <<'PY'
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
name = "model.layers.2.self_attn.k_proj.qweight"
file = folder / json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"][name]
data = bytearray(file.read_bytes())
length = int.from_bytes(data[:8], "little")
data[8 + length + json.loads(data[8:8 + length])[name]["data_offsets"][0]] ^= 1
file.write_bytes(data)
PY
back "$scratch/out/layouts/marlin" compressed-tensors
! cmp -s <(cat "$scratch/out"/*.safetensors) <(cat "$scratch/back"/*.safetensors) || fail "the layout's own codes are not what was read"

refuse() { refuses 2 "$2" "$QUANTIZE" --recipe recipes/rtn.yaml --output "$scratch/no" --device cpu --quiet --dry-run --set "output.formats=$1" "${symmetric[@]}" "${@:3}"; }
refuse '[marlin]' 'goes beside a checkpoint'
refuse '[compressed-tensors, nvfp4-swizzled]' 'layout nvfp4-swizzled: NVFP4 and MX scale tiles hold E4M3 or E8M0 scales'
refuse '[compressed-tensors, awq-gemv-layout]' 'takes no bits without zero points'
refuse '[compressed-tensors, machete]' 'group_size 32: the kernel takes -1, 64, 128' --set 'rules[0].scheme.group_size=32'
[[ ! -e $scratch/no ]] || fail "a refused run left something"
