# What is read of a text is bounded, not its file: a limit that a run with little text keeps does for one of 16 MB too, whatever
# kind of file it is; samples drawn from all of it take its ids alone. A limit that the text breaks is refused while it is read.
. tests/e2e/lib.sh
"$PYTHON" - "$scratch" <<'EOF'
import json, sys
base = open("data/text/calibration.txt").read()
parts = [base.replace("the", f"the{i}", 50) for i in range(64)]
open(sys.argv[1] + "/long.txt", "w").write("".join(parts))
with open(sys.argv[1] + "/long.jsonl", "w") as f:
    for part in parts:
        for text in part.split("\n\n"):
            if text.strip():
                f.write(json.dumps({"text": text}) + "\n")
EOF
run() {  # OUTPUT FILE [flags...]
  local output=$1 file=$2; shift 2
  "$QUANTIZE" --recipe recipes/rtn.yaml --output "$output" --device cpu --threads 1 --quiet --overwrite --set evaluate=null \
    --set calibration.samples=8 --set calibration.seq_len=256 --set "calibration.data=[$file]" "$@"
}
peak() { value "$scratch/out/report.json" "r['memory']['peak']['ram'] >> 20"; }
run "$scratch/out" data/text/calibration.txt >/dev/null
little=$(peak)
limit=$((little + 56))
for file in long.txt long.jsonl; do
  run "$scratch/out" "$scratch/$file" --max-ram "${limit}MiB" >/dev/null
  holds "$scratch/out/report.json" "r['memory']['peak']['ram'] <= r['memory']['limits']['ram']"
  echo "$file: peak $(peak) of $limit MiB, $little with little text"
done
run "$scratch/out" "$scratch/long.jsonl" --set calibration.seed=1 --max-ram "$((limit))MiB" >/dev/null
echo "drawn from all: peak $(peak) MiB"
