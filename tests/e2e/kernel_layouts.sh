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

refuse() { refuses 2 "$2" "$QUANTIZE" --recipe recipes/rtn.yaml --output "$scratch/no" --device cpu --quiet --dry-run --set "output.formats=$1" "${symmetric[@]}" "${@:3}"; }
refuse '[marlin]' 'goes beside a checkpoint'
refuse '[compressed-tensors, nvfp4-swizzled]' 'layout nvfp4-swizzled: NVFP4 and MX scale tiles hold E4M3 or E8M0 scales'
refuse '[compressed-tensors, awq-gemv-layout]' 'takes no bits without zero points'
refuse '[compressed-tensors, machete]' 'group_size 32: the kernel takes -1, 64, 128' --set 'rules[0].scheme.group_size=32'
[[ ! -e $scratch/no ]] || fail "a refused run left something"
