# Calibration text that can't be used.
. tests/e2e/lib.sh
try() { refuses 2 "$1" quick recipes/rtn.yaml "$scratch/out" --calib "$2"; }
: >"$scratch/empty.txt"; try "empty" "$scratch/empty.txt"
printf 'fine so far \xc3\x28 and on' >"$scratch/utf8.txt"; try "UTF-8" "$scratch/utf8.txt"
echo "too short" >"$scratch/short.txt"; try "add text for 8 more" "$scratch/short.txt"
try "missing.txt" "$scratch/missing.txt"
echo '{"text": 5}' >"$scratch/bad.jsonl"; try "bad.jsonl" "$scratch/bad.jsonl"
refuses 2 "too short to score" quick recipes/rtn.yaml "$scratch/out" --set evaluate.ctx=1000000
refuses 2 "nowhere.txt" quick recipes/rtn.yaml "$scratch/out" --dry-run --set evaluate.text=nowhere.txt
[[ ! -e $scratch/out ]] || fail "an output was written"
