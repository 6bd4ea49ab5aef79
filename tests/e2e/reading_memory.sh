# What is read of a text is bounded, not its file: a limit that a run with little text keeps does for one of 16 MB too, whatever
# kind of file it is, and for samples drawn from all of it. One document that is too large for the limit is refused before it is
# read, with a limit that does.
. tests/e2e/lib.sh
"$PYTHON" - "$scratch" <<'END'
import json, sys
base = open("data/text/calibration.txt").read()
parts = [base.replace("the", f"the{i}", 50) for i in range(64)]
texts = [text for part in parts for text in part.split("\n\n") if text.strip()]
open(sys.argv[1] + "/long.txt", "w").write("".join(parts))
with open(sys.argv[1] + "/long.jsonl", "w") as f:
    for text in texts:
        f.write(json.dumps({"text": text}) + "\n")
open(sys.argv[1] + "/line.jsonl", "w").write(json.dumps({"text": "".join(parts * 2)}) + "\n")
open(sys.argv[1] + "/ids.jsonl", "w").write(json.dumps([i % 97 for i in range(6_000_000)]) + "\n")
import numpy
ids = numpy.arange(16_000_000, dtype="<i4") % 97
numpy.save(sys.argv[1] + "/rows.npy", ids.reshape(-1, 256))
numpy.save(sys.argv[1] + "/row.npy", ids)
import pyarrow, pyarrow.parquet
pyarrow.parquet.write_table(pyarrow.table({"text": texts}), sys.argv[1] + "/group.parquet", row_group_size=1 << 30)
pyarrow.parquet.write_table(pyarrow.table({"text": ["".join(parts)]}), sys.argv[1] + "/one.parquet")
END
run() {  # OUTPUT FILE [flags...]
  local output=$1 file=$2; shift 2
  "$QUANTIZE" --recipe recipes/rtn.yaml --output "$output" --device cpu --threads 1 --quiet --overwrite --set evaluate=null \
    --set calibration.samples=8 --set calibration.seq_len=256 --set "calibration.data=[$file]" "$@"
}
peak() { value "$scratch/out/report.json" "r['memory']['peak']['ram'] >> 20"; }
keeps() { holds "$scratch/out/report.json" "r['memory']['peak']['ram'] <= r['memory']['limits']['ram']"; }
named() { sed -n 's/.*would do is --max-ram \([0-9]*\)MiB (the limit is .*/\1/p' "$scratch/stderr"; }  # by the run's own plan
refuses 2 "would do is --max-ram" run "$scratch/out" data/text/calibration.txt --max-ram 100MiB
little=$(named)
run "$scratch/out" data/text/calibration.txt --max-ram "${little}MiB" >/dev/null
keeps
limit=$((little + 32))
for file in long.txt long.jsonl rows.npy; do
  for seed in 0 1; do
    run "$scratch/out" "$scratch/$file" --max-ram "${limit}MiB" --set calibration.seed=$seed >/dev/null
    keeps
    echo "$file, seed $seed: peak $(peak) of $limit MiB; $little do for little text"
  done
done
# Arrow itself is 70 MB.
run "$scratch/out" "$scratch/group.parquet" --max-ram "$((limit + 72))MiB" >/dev/null
keeps
echo "group.parquet: peak $(peak) MiB"

# Samples are the same whether the ids of all documents are kept until some are drawn, or read again.
drawn() { run "$scratch/out" "$scratch/long.jsonl" --set calibration.seed=1 "$@" >/dev/null; value "$scratch/out/report.json" "r['calibration']['ids_hash']"; }
again=$(drawn --max-ram "${limit}MiB"); kept=$(drawn)
[[ $again == xxh3* && $again == "$kept" ]] || fail "samples drawn in little memory are others: $again, $kept"

for file in line.jsonl ids.jsonl row.npy one.parquet; do
  refuses 2 "$file: --max-ram (limits.ram) is $little.0 MiB" run "$scratch/out" "$scratch/$file" --max-ram "${little}MiB"
  limit=$(sed -n 's/.*takes \([0-9]*\) MiB at most; raise.*/\1/p; s/.*; \([0-9]*\) MiB surely do.*/\1/p' "$scratch/stderr")
  # What reading needs; the run that follows may need more, and says so before it begins.
  if ! run "$scratch/out" "$scratch/$file" --max-ram "${limit}MiB" >/dev/null 2>"$scratch/stderr"; then
    limit=$(named)
    [[ -n $limit ]] || fail "$file: $(cat "$scratch/stderr")"
    run "$scratch/out" "$scratch/$file" --max-ram "${limit}MiB" >/dev/null
  fi
  keeps
  echo "$file: refused within $little MiB, peak $(peak) within the $limit MiB that were named"
done
