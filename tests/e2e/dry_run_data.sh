# The plan says what the data gives, what is left out of it, and what is doubtful about it.
. tests/e2e/lib.sh
plan() { quick recipes/awq.yaml "$scratch/out" --dry-run "$@" >"$scratch/plan"; }
says() { grep -qF -- "$1" "$scratch/plan" || fail "expected '$1' in the plan: $(cat "$scratch/plan")"; }
silent() { ! grep -qF -- "$1" "$scratch/plan" || fail "unexpected '$1' in the plan: $(cat "$scratch/plan")"; }
plan
says "data       data/text/calibration.txt: text, 1 document,"
says "samples    8 of "
says "languages  English "
says "warning    few calibration tokens: 2048 for inputs up to "
says "wanted     12288 tokens or more: 16 for each column of the widest Hessian"
plan --set calibration.samples=128 --set calibration.seq_len=512
silent "warning"
says "wanted     12288 tokens or more"
says "propagate  quantised: a block is calibrated on what the quantised blocks before it give"
plan --set calibration.propagate=reference
says "propagate  reference: a block is calibrated on what the floating-point blocks before it give"

head -n 300 data/text/calibration.txt >"$scratch/more.txt"
plan --calib data/text/calibration.txt --calib "$scratch/more.txt"
says "warning    unused calibration data: none of the 8 samples is taken from $scratch/more.txt"
plan --set "calibration.data=[{path: data/text/calibration.txt}, {path: $scratch/more.txt, samples: 1}]"
silent "unused calibration data"

"$PYTHON" - >"$scratch/chat.jsonl" <<'PY'
import json
for i in range(40):
    print(json.dumps({"text": f"What is {i % 20} and {i % 20}?"}))
print(json.dumps({"text": "."}))
PY
plan --calib "$scratch/chat.jsonl" --set calibration.packing=document --set calibration.seq_len=5 --set calibration.min_tokens=3
says "41 documents"
says "documents truncated; 1 document dropped"
says "warning    all calibration documents are very short"
silent "repeated calibration documents"  # among the 8 that are taken
plan --calib "$scratch/chat.jsonl" --set calibration.packing=document --set calibration.seq_len=5 \
  --set calibration.min_tokens=3 --set calibration.samples=40
says "warning    repeated calibration documents: 20 of 40"
printf '{"text": null}\n{"url": "a"}\n' >>"$scratch/chat.jsonl"
plan --calib "$scratch/chat.jsonl" --set calibration.packing=document --set calibration.seq_len=5 --set calibration.min_tokens=3
says "43 documents"
says "1 document dropped as too short; 2 documents without a value"
refuses 2 "too little text" quick recipes/awq.yaml "$scratch/out" --dry-run --calib "$scratch/chat.jsonl"

# A run puts the warnings into its report.
quick recipes/rtn.yaml "$scratch/run" --set evaluate=null
holds "$scratch/run/report.json" "any('few calibration tokens' in w for w in r['warnings'])"
[[ ! -e $scratch/out ]] || fail "a dry run wrote $scratch/out"
