# A disk that keeps other bytes than it was given, without a word: the run ends with exit code 3, what it wrote is .rejected, and every
# tensor that is not what it should be is named, in each kind of output. libfailing_disk.so flips a bit of one write, or of all that follow.
. tests/e2e/lib.sh
library=$(dirname "$QUANTIZE")/libfailing_disk.so
[[ -e $library ]] || skip "no $library (target failing_disk)"

damaged() {  # NAME FILE FOLDER RECIPE [flags...]: FILE of the output is written wrong; FOLDER's report says so
  local name=$1 file=$2 folder=$3 recipe=$4 writes at status; shift 4
  run() {  # OUTPUT FAULT
    env LD_PRELOAD="$library" FAIL_UNDER="$scratch" FAIL_NAME="/$file" FAIL_AT="$2" FAIL_COUNT="$scratch/count" "$QUANTIZE" --recipe "$recipe" \
      --output "$1" --device cpu --quiet --overwrite --no-journal --set evaluate=null --set calibration.samples=2 \
      --set calibration.seq_len=64 "${flags[@]}"
  }
  local flags=("$@")
  run "$scratch/$name" rename:99999:EIO >/dev/null || fail "$name: exit code $? without damage"
  writes=$(grep '^write ' "$scratch/count" | cut -d' ' -f2)
  ((writes > 20)) || fail "$name: only $writes writes of $file"
  for at in "$((writes / 2))" "$((writes - 2))" "$((writes * 3 / 4))+"; do
    status=0
    run "$scratch/hurt" "write:$at:flip" >/dev/null 2>"$scratch/stderr" || status=$?
    ((status == 3)) || fail "$name: write $at of $writes: exit code $status, expected 3: $(head -c 600 "$scratch/stderr")"
    [[ ! -e $scratch/hurt && -d $scratch/hurt.rejected ]] || fail "$name: write $at of $writes: what is damaged was not rejected"
    "$PYTHON" - "$scratch/$name/$file" "$scratch/hurt.rejected/$file" "$scratch/hurt.rejected/$folder/report.json" "$at" <<'P' ||
import json, sys
from safetensors import safe_open

def tensors(path):
    """(name, first byte, end) of each."""
    if path.endswith(".gguf"):
        from gguf import GGUFReader
        return [(t.name, t.data_offset, t.data_offset + t.n_bytes) for t in GGUFReader(path).tensors]
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return [(name, *(8 + length + at for at in row["data_offsets"])) for name, row in header.items() if name != "__metadata__"]

good, bad = (open(path, "rb").read() for path in sys.argv[1:3])
assert len(good) == len(bad)
hurt = [name for name, begin, end in tensors(sys.argv[1]) if good[begin:end] != bad[begin:end]]
places = [row["name"] for row in json.load(open(sys.argv[3]))["verification"]["failed"]]
# A place is a tensor, or the linear that it belongs to; GGUF's, with the model's name for it behind.
unnamed = [name for name in hurt if not any(f"{name} ".startswith((f"{place} ", f"{place}.")) or place.startswith(f"{name} ") for place in places)]
assert hurt and (len(hurt) == 1) == (not sys.argv[4].endswith("+")), f"damaged: {hurt}"
assert not unnamed, f"damaged and not named: {unnamed}; named: {places}"
print(f"{len(hurt)} tensors damaged, {len(places)} findings")
P
      fail "$name: write $at of $writes: $(head -3 "$scratch/stderr")"
    rm -rf "$scratch/hurt.rejected"
  done
}
damaged safetensors model.safetensors . recipes/gptq.yaml --set 'output.formats=[awq]'
damaged gguf lathe-tiny-Q4_K_M.gguf . recipes/gguf.yaml
damaged layout layouts/marlin/model.safetensors . recipes/rtn.yaml "${symmetric[@]}" --set 'output.formats=[compressed-tensors, marlin]'

# A conversion leaves nothing at all.
refuses 3 "model.layers" env LD_PRELOAD="$library" FAIL_UNDER="$scratch" FAIL_NAME=/model.safetensors FAIL_AT=write:9:flip \
  "$QUANTIZE" convert --model "$scratch/layout" --to gptq --output "$scratch/converted" --quiet
[[ -z $(find "$scratch" -maxdepth 1 -name '*converted*') ]] || fail "a damaged conversion left something"
