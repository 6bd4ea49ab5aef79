# An index that names a shard or tensor that isn't there.
. tests/e2e/lib.sh
copy_model "$scratch/m"
"$PYTHON" - "$scratch/m" <<'P'
import json, pathlib, sys
from safetensors.torch import load_file, save_file
folder = pathlib.Path(sys.argv[1]); tensors = load_file(folder / "model.safetensors"); names = sorted(tensors); (folder / "model.safetensors").unlink()
index = {}
for k, part in enumerate((names[::2], names[1::2])):
    file = f"model-0000{k + 1}-of-00002.safetensors"; save_file({n: tensors[n] for n in part}, folder / file, {"format": "pt"}); index |= {n: file for n in part}
json.dump({"metadata": {"total_size": 0}, "weight_map": index}, open(folder / "model.safetensors.index.json", "w"))
P
quick recipes/rtn.yaml "$scratch/good" --model "$scratch/m"  # a sharded model works
try() { refuses 2 "$1" quick recipes/rtn.yaml "$scratch/out" --model "$scratch/m"; }
cp "$scratch/m/model.safetensors.index.json" "$scratch/index"
sed -i 's/model-00002-of/model-00003-of/g' "$scratch/m/model.safetensors.index.json"; try "model-00003-of-00002.safetensors"
sed 's/model.norm.weight/model.norm.wait/' "$scratch/index" >"$scratch/m/model.safetensors.index.json"; try "model.norm.w"
