#!/usr/bin/env bash
# F16 and Q8_0 files of the embedded model: every key, every tensor's name, type and shape are those of llama.cpp's
# convert_hf_to_gguf.py, and F16 bytes, too (blocks of Q8_0 are searched here, so that they differ).
. tests/e2e/lib.sh
"$PYTHON" -c 'import gguf' 2>/dev/null || skip "needs gguf-py"
quick recipes/gguf.yaml "$scratch/out" --set evaluate=null --set calibration=null --set 'output.formats=["gguf:F16","gguf:Q8_0"]'
for type in F16 Q8_0; do
  "$PYTHON" tests/tools/make_gguf_golden.py "$scratch/out/gguf-$type/lathe-tiny-$type.gguf" --digests >"$scratch/$type.json"
  "$PYTHON" - "$scratch/$type.json" tests/golden/gguf/converted.json "$type" <<'END' || fail "$type differs"
import json, sys
ours, theirs = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))[sys.argv[3]]
for tensor in [*ours["tensors"].values(), *theirs["tensors"].values()]:
    if tensor[0] == "Q8_0":
        tensor.pop()
wrong = [f"{part}: {name}: expected {theirs[part].get(name)}, found {ours[part].get(name)}" for part in ("keys", "tensors")
         for name in sorted(ours[part].keys() | theirs[part].keys()) if ours[part].get(name) != theirs[part].get(name)]
print("\n".join(wrong), file=sys.stderr)
sys.exit(len(wrong) > 0)
END
done
