# A source's tokens count as often as the recipe says in Hessians, and a dump keeps that.
. tests/e2e/lib.sh
head -n 600 data/text/calibration.txt >"$scratch/a.txt"
tail -n 600 data/text/calibration.txt >"$scratch/b.txt"
run() {  # OUTPUT WEIGHT [flags...]
  local output=$1 weight=$2; shift 2
  quick recipes/gptq.yaml "$scratch/$output" --set evaluate=null \
    --set "calibration.data=[{path: $scratch/a.txt, samples: 4}, {path: $scratch/b.txt, samples: 4, token_weight: $weight}]" "$@"
}
run plain 1
run heavy 50 --dump-ids "$scratch/heavy.safetensors"
cmp -s "$scratch/plain/model.safetensors" "$scratch/heavy/model.safetensors" && fail "weights change nothing"
hash() { value "$scratch/$1/manifest.json" "r['dataset']['ids_hash']"; }
[[ $(hash plain) != $(hash heavy) ]] || fail "the hash is of the ids alone"
quick recipes/gptq.yaml "$scratch/again" --set evaluate=null --calib "$scratch/heavy.safetensors"
cmp "$scratch/heavy/model.safetensors" "$scratch/again/model.safetensors" || fail "the fed-back weights give other bytes"
[[ $(hash again) == $(hash heavy) ]] || fail "the fed-back weights have another hash"
run none 2 --dry-run >"$scratch/plan"
grep -q "^samples .*; weighted in Hessians and mean squares" "$scratch/plan" || fail "the plan is silent about weights: $(cat "$scratch/plan")"
refuses 2 "token_weight: expected" run none 0 --dry-run

# A token of weight 0 is context for those behind it and counts in no statistic: behind the last that counts it may as well be padding.
"$PYTHON" - "$scratch" <<'PY'
import json, pathlib, sys
import numpy
import torch
from safetensors.torch import load_file, save_file
folder = pathlib.Path(sys.argv[1])
ids = load_file(folder / "heavy.safetensors")["input_ids"]
lengths = torch.tensor([256 - 28 * i for i in range(len(ids))])
answers = (torch.arange(ids.shape[1]) < lengths[:, None]).float()
answers[:, :64] = 0  # the questions
save_file({"input_ids": ids, "token_weights": answers}, folder / "answers.safetensors")
weights = torch.ones(ids.shape)
weights[:, :64] = 0
save_file({"input_ids": ids, "token_weights": weights, "lengths": lengths}, folder / "cut.safetensors")
# The same rows, padded on the left, with a mask.
padded, mask, right = torch.zeros_like(ids), torch.zeros_like(ids), torch.zeros_like(weights)
for i, n in enumerate(lengths):
    padded[i, -n:], mask[i, -n:], right[i, -n:] = ids[i, :n], 1, weights[i, :n]
save_file({"input_ids": padded, "token_weights": right, "attention_mask": mask}, folder / "left.safetensors")
# The same without padding and as rows beside their weights: a list a line, and two arrays of one length.
with open(folder / "lines.jsonl", "w") as lines:
    for row, w, n in zip(ids.tolist(), weights.tolist(), lengths.tolist()):
        lines.write(json.dumps({"input_ids": row[:n], "token_weights": w[:n]}) + "\n")
numpy.save(folder / "array.npy", ids.numpy())
numpy.save(folder / "array.weights.npy", answers.numpy())
mask[0, -3] = 0
save_file({"input_ids": padded, "attention_mask": mask}, folder / "holes.safetensors")
PY
of_ids() {  # NAME OUTPUT [flags...]
  local name=$1 output=$2; shift 2
  [[ $name == *.* ]] || name=$name.safetensors
  quick recipes/gptq.yaml "$scratch/$output" --set evaluate=null --set calibration.packing=document --calib "$scratch/$name" "$@"
}
of_ids answers questions --dry-run >"$scratch/plan"
grep -q "^samples .* 756 tokens; .*; 1292 more are context and count in no statistic" "$scratch/plan" || fail "the plan's counts: $(cat "$scratch/plan")"
of_ids answers answers
of_ids cut cut
of_ids left left --dump-ids "$scratch/dumped.safetensors"
of_ids dumped dumped
of_ids lines.jsonl lines
of_ids array.npy array
for same in cut left dumped lines array; do
  cmp "$scratch/answers/model.safetensors" "$scratch/$same/model.safetensors" || fail "$same: other bytes"
done
[[ $(hash left) == $(hash cut) && $(hash dumped) == $(hash cut) && $(hash lines) == $(hash cut) ]] || fail "padding is part of the hash"
[[ $(hash array) == $(hash answers) ]] || fail "an array's weights have another hash"
refuses 2 "attention_mask: row 0: element 254: expected ones in one piece" of_ids holes none --dry-run
