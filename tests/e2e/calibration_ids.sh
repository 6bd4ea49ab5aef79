# The ids of a run, dumped and fed back, give the same hash and the same bytes.
. tests/e2e/lib.sh
plain() { quick recipes/rtn.yaml "$@" --set evaluate=null; }
plain "$scratch/a" --set calibration.seed=5 --dump-ids "$scratch/ids.safetensors"
plain "$scratch/b" --calib "$scratch/ids.safetensors"
cmp "$scratch/a/model.safetensors" "$scratch/b/model.safetensors" || fail "the fed-back ids give other bytes"
[[ $(value "$scratch/a/manifest.json" "r['dataset']['ids_hash']") == $(value "$scratch/b/manifest.json" "r['dataset']['ids_hash']") ]] ||
  fail "the ids differ"
[[ $(value "$scratch/a/manifest.json" "r['dataset']['ids_hash']") == $(value "$scratch/a/report.json" "r['calibration']['ids_hash']") ]] ||
  fail "manifest and report name different ids"
holds "$scratch/b/manifest.json" "r['dataset']['sources'][0]['kind'] == 'safetensors' and r['dataset']['sources'][0]['samples'] == 8"
plain "$scratch/c" --dry-run --calib "$scratch/ids.safetensors" --dump-ids "$scratch/ids.npy" >/dev/null
"$PYTHON" - "$scratch" <<'PY' || fail "the dumped files differ"
import sys, numpy, safetensors.numpy
folder = sys.argv[1]
a = safetensors.numpy.load_file(folder + "/ids.safetensors")["input_ids"]
b = numpy.load(folder + "/ids.npy")
assert a.shape == (8, 256) and a.dtype == b.dtype == numpy.int64 and (a == b).all()
PY

# Documents of different lengths: padded, masked, and dumped with their lengths.
"$PYTHON" - >"$scratch/lines.jsonl" <<'PY'
import json
text = open("data/text/calibration.txt", encoding="utf-8").read()
for i in range(10): print(json.dumps({"text": text[5000 * i:5000 * i + 40 + 300 * i]}))
PY
document() { plain "$@" --set calibration.packing=document; }
document "$scratch/e" --calib "$scratch/lines.jsonl" --dump-ids "$scratch/ragged.safetensors"
document "$scratch/f" --calib "$scratch/ragged.safetensors"
cmp "$scratch/e/model.safetensors" "$scratch/f/model.safetensors" || fail "the fed-back documents give other bytes"
holds "$scratch/e/manifest.json" "r['dataset']['tokens'] < r['dataset']['samples'] * r['dataset']['length']"
[[ $(value "$scratch/e/manifest.json" "r['dataset']['ids_hash']") == $(value "$scratch/f/manifest.json" "r['dataset']['ids_hash']") ]] ||
  fail "the documents' ids differ"
refuses 2 "the samples differ in length" document "$scratch/g" --calib "$scratch/lines.jsonl" --dump-ids "$scratch/ragged.npy"
refuses 2 "ids.txt: token ids are written to" plain "$scratch/d" --dump-ids "$scratch/ids.txt"

# A dump replaces nothing unasked, and never what the run reads.
cp "$scratch/ids.safetensors" "$scratch/kept"
refuses 2 "already exists; choose another name or pass --overwrite" plain "$scratch/h" --dump-ids "$scratch/ids.safetensors" --dry-run
refuses 2 "the run reads this file" \
  plain "$scratch/h" --calib "$scratch/ids.safetensors" --dump-ids "$scratch/ids.safetensors" --overwrite --dry-run
cmp "$scratch/ids.safetensors" "$scratch/kept" || fail "a refused dump changed the file"
model="$scratch/model"; copy_model "$model"
for inside in "$model/ids.npy" "$scratch/h/ids.npy" "$model/../model/sub/ids.npy"; do
  refuses 2 "lies in the folder of the model or the output" plain "$scratch/h" --model "$model" --dump-ids "$inside" --overwrite
done
[[ ! -e $scratch/h && ! -e $model/ids.npy ]] || fail "a refused dump left something behind"
plain "$scratch/h" --model "$model" --dump-ids "$model-ids.npy" --dry-run >/dev/null  # beside the folder, its name a prefix

# A dump that is cut anew says so: other samples than those that were dumped.
recut="ids.safetensors holds rows of 256 ids, which are joined and cut into samples of 128"
plain "$scratch/h" --calib "$scratch/ids.safetensors" --dry-run --set calibration.seq_len=128 >"$scratch/plan"
grep -q "^warning    token ids cut anew: .*$recut" "$scratch/plan" || fail "no warning: $(cat "$scratch/plan")"
plain "$scratch/h" --calib "$scratch/ids.safetensors" --dry-run >"$scratch/plan"
! grep -q "cut anew" "$scratch/plan" || fail "a warning of rows that stay whole: $(cat "$scratch/plan")"
refuses 2 "set calibration.packing to document" plain "$scratch/h" --calib "$scratch/ragged.safetensors"
plain "$scratch/i" --dry-run --set calibration.seq_len=4096 --set calibration.samples=1 >"$scratch/long"
grep -q "longer than the model's max_position_embeddings" "$scratch/long" || fail "no warning of long samples: $(cat "$scratch/long")"
