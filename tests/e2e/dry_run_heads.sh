# A plan reads of large texts what it needs of them: their heads, and says that the rest is estimated; and that the output exists already.
. tests/e2e/lib.sh
"$PYTHON" - "$scratch" <<'PY'
import json, sys
from pathlib import Path
import pyarrow as pa
import pyarrow.parquet as pq
scratch, text = Path(sys.argv[1]), Path("data/text/calibration.txt").read_text()
paragraphs = [part for part in text.split("\n") if len(part) > 200]
many = paragraphs * (20_000_000 // sum(map(len, paragraphs)))
(scratch / "large.txt").write_text("\n".join(many) + "\n")
(scratch / "large.jsonl").write_text("".join(json.dumps({"text": part}) + "\n" for part in many))
pq.write_table(pa.table({"text": many}), scratch / "large.parquet", row_group_size=20_000)
PY
# The ends are broken: whoever gets there says so.
printf '\xff\n' | tee -a "$scratch/large.txt" >>"$scratch/large.jsonl"
for kind in txt jsonl parquet; do
  quick recipes/awq.yaml "$scratch/out" --dry-run --calib "$scratch/large.$kind" --set evaluate.text="$scratch/large.txt" >"$scratch/plan"
  grep -q "^data       .*large.$kind: .* 8 taken (estimated from the first [0-9.]* % of the file)$" "$scratch/plan" || fail "$(cat "$scratch/plan")"
  grep -q "^samples    8 of about [0-9]* usable, 2048 tokens$" "$scratch/plan" || fail "$(cat "$scratch/plan")"
  quick recipes/awq.yaml "$scratch/out" --dry-run --json --calib "$scratch/large.$kind" --set evaluate.rows=0 --set evaluate.text="$scratch/large.txt" >"$scratch/json"
  matches lib/report/plan.schema.json "$scratch/json"
  holds "$scratch/json" "r['calibration']['ids_hash'] is None and r['calibration']['unused_tokens'] is None and r['calibration']['samples'] == 8"
  holds "$scratch/json" "r['calibration']['sources'][0]['file_hash'] is None and 0 < r['calibration']['sources'][0]['read'] < 0.2"
  holds "$scratch/json" "0 < r['evaluation']['read'] < 0.2 and r['evaluation']['rows'] > 1000"
done
quick recipes/awq.yaml "$scratch/out" --dry-run --set evaluate.rows=0 --set evaluate.text="$scratch/large.txt" >"$scratch/plan"
grep -q "^           about [0-9]* rows of .* tokens, estimated from the first [0-9.]* % of .*large.txt$" "$scratch/plan" || fail "$(cat "$scratch/plan")"
"$QUANTIZE" --recipe recipes/rtn.yaml --device cpu --dry-run --output "$scratch/out" --set calibration=null --set evaluate.rows=0 --set evaluate.text="$scratch/large.txt" >"$scratch/plan"
grep -q "^           about [0-9]* rows" "$scratch/plan" || fail "$(cat "$scratch/plan")"
# Ids that are written are those of the run, for which all is read; a run reads all.
refuses 2 "invalid UTF-8" quick recipes/awq.yaml "$scratch/out" --dry-run --calib "$scratch/large.txt" --dump-ids "$scratch/ids.npy"
refuses 2 "invalid UTF-8" quick recipes/awq.yaml "$scratch/out" --calib "$scratch/large.jsonl"
# What is small is known to the last token.
quick recipes/awq.yaml "$scratch/out" --dry-run --json >"$scratch/json"
holds "$scratch/json" "r['calibration']['ids_hash'] and r['calibration']['sources'][0]['file_hash'] and 'read' not in r['calibration']['sources'][0]"

# A plan also says what stands in the run's way.
mkdir "$scratch/mine"
touch "$scratch/mine/file"
quick recipes/rtn.yaml "$scratch/mine" --dry-run >"$scratch/plan"
grep -q "^warning    the run would be refused: output .*mine: already exists; choose another --output or pass --overwrite$" "$scratch/plan" || fail "$(cat "$scratch/plan")"
quick recipes/rtn.yaml "$scratch/mine" --dry-run --overwrite --json >"$scratch/json"
holds "$scratch/json" "any('the run would be refused: output' in w and 'replaces only what Lathe wrote' in w for w in r['warnings'])"
rm "$scratch/mine/file"
quick recipes/rtn.yaml "$scratch/mine" --dry-run --overwrite >"$scratch/plan"
grep -q "^warning    output .*mine: exists; the run replaces it once it is finished (--overwrite)$" "$scratch/plan" || fail "$(cat "$scratch/plan")"
quick recipes/rtn.yaml "$scratch/new" --dry-run >"$scratch/plan"
! grep -q "exists" "$scratch/plan" || fail "$(cat "$scratch/plan")"
mkdir "$scratch/measured"
echo '{}' >"$scratch/measured/sensitivity.json"
"$QUANTIZE" sensitivity --recipe recipes/sensitivity.yaml --device cpu --output "$scratch/measured" --calib "$scratch/large.jsonl" --dry-run >"$scratch/plan"
grep -q "^warning    the run would be refused: .*measured/sensitivity.json: exists already; give --overwrite to measure anew$" "$scratch/plan" || fail "$(cat "$scratch/plan")"
