# Broken models end in one clear line and exit code 2, before anything is written.
. tests/e2e/lib.sh
# --overwrite: what an earlier one finished before it ended is given up.
try() { refuses 2 "$1" quick recipes/rtn.yaml "$scratch/out" --model "$2" --overwrite; [[ ! -e $scratch/out ]] || fail "wrote an output for $2"; }
broken() { rm -rf "$scratch/m"; copy_model "$scratch/m"; }

broken; truncate -s -1000 "$scratch/m/model.safetensors"; try "model.safetensors" "$scratch/m"
broken; printf '\xff\xff\xff\xff\xff\xff\xff\x7f' | dd of="$scratch/m/model.safetensors" conv=notrunc status=none; try "header" "$scratch/m"
broken; rm "$scratch/m/config.json"; try "config.json" "$scratch/m"
broken; rm "$scratch/m/tokenizer.json"; try "tokenizer" "$scratch/m"
broken; rm "$scratch/m/model.safetensors"; try "safetensors" "$scratch/m"
broken; sed -i 's/"intermediate_size": 768/"intermediate_size": 512/' "$scratch/m/config.json"; try "mlp" "$scratch/m"
broken; sed -i 's/"model_type": "llama"/"model_type": "lama"/' "$scratch/m/config.json"; try "'lama'" "$scratch/m"
try "nowhere" "$scratch/nowhere"

# One NaN in a weight, and one Inf.
for bits in 0x7e00 0x7c00; do
  broken
  "$PYTHON" - "$scratch/m/model.safetensors" $bits <<'P'
import json, struct, sys
with open(sys.argv[1], "r+b") as f:
    n = struct.unpack("<Q", f.read(8))[0]; header = json.loads(f.read(n))
    f.seek(8 + n + header["model.layers.3.mlp.up_proj.weight"]["data_offsets"][0] + 2 * 777); f.write(struct.pack("<H", int(sys.argv[2], 16)))
P
  try "model.layers.3.mlp.up_proj.weight" "$scratch/m"
done

# The same in what nothing computes with when weights are quantised one by one: a norm, the head's norm, the embedding.
for name in model.layers.2.input_layernorm.weight model.norm.weight model.embed_tokens.weight; do
  broken
  "$PYTHON" - "$scratch/m/model.safetensors" $name <<'P'
import json, struct, sys
with open(sys.argv[1], "r+b") as f:
    n = struct.unpack("<Q", f.read(8))[0]; header = json.loads(f.read(n))
    f.seek(8 + n + header[sys.argv[2]]["data_offsets"][0] + 2 * 77); f.write(struct.pack("<H", 0x7e00))
P
  refuses 2 "$scratch/m/model.safetensors: tensor '$name': element 77 is NaN" "$QUANTIZE" --recipe recipes/hqq.yaml --device cpu --quiet --set evaluate=null --overwrite \
    --output "$scratch/out" --model "$scratch/m"
  [[ ! -e $scratch/out ]] || fail "wrote an output for a NaN in $name"
done

# A tensor in a type that can't be quantised from.
broken
"$PYTHON" - "$scratch/m/model.safetensors" <<'P'
import sys, torch
from safetensors.torch import load_file, save_file
t = load_file(sys.argv[1]); name = "model.layers.0.mlp.up_proj.weight"; t[name] = t[name].double(); save_file(t, sys.argv[1], {"format": "pt"})
P
try "F64" "$scratch/m"

# Fewer layers in config.json than in the checkpoint: another model, never in silence.
broken; sed -i 's/"num_hidden_layers": 6/"num_hidden_layers": 5/' "$scratch/m/config.json"; try "num_hidden_layers" "$scratch/m"
# A tensor that nobody knows beside a linear.
broken
"$PYTHON" - "$scratch/m/model.safetensors" <<'P'
import sys, torch
from safetensors.torch import load_file, save_file
t = load_file(sys.argv[1]); t["model.layers.0.mlp.up_proj.g_idx"] = torch.zeros(4); save_file(t, sys.argv[1], {"format": "pt"})
P
try "g_idx" "$scratch/m"
