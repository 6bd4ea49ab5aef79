# A run that is killed goes on with --resume, and ends with the bytes of one that was never interrupted: for solvers and
# transforms, two streams of hidden states, experts, GGUF, FP8 checkpoints, and runs without calibration. What changed meanwhile refuses.
. tests/e2e/lib.sh
data=(--set calibration.samples=8 --set calibration.seq_len=256)
survives() {  # NAME SEED RECIPE [flags...]
  local name=$1 seed=$2 recipe=$3; shift 3
  "$PYTHON" tests/tools/kill_and_resume.py "$QUANTIZE" "$scratch/$name" --kills 2 --seed "$seed" -- --recipe "$recipe" --device cpu --journal-every 0 \
    --set evaluate=null "$@" || fail "$name"
}
survives gptq 1 recipes/gptq.yaml "${data[@]}"
survives spqr 2 recipes/spqr.yaml "${data[@]}"
survives two_streams 3 recipes/kv-fp8.yaml "${data[@]}"
survives gguf 4 recipes/awq-gptq.yaml "${data[@]}" --set 'output.formats=[compressed-tensors, gguf:q4_k_m]' --set report.activations=true
survives weights_only 5 recipes/hqq.yaml
"$PYTHON" tests/tools/make_fp8_model.py quantise "$MODEL" "$scratch/fp8" --block 128 128 || fail "no FP8 model"
survives from_fp8 7 recipes/gptq.yaml --model "$scratch/fp8" "${data[@]}"
survives weights_of_fp8 8 recipes/hqq.yaml --model "$scratch/fp8"
if "$PYTHON" -c 'import transformers' 2>/dev/null; then
  vocab=$(value "$MODEL/config.json" "r['vocab_size']")
  checkpoint "$scratch/experts" qwen2_moe "{\"vocab_size\": $vocab, \"num_experts\": 5}" --idle-expert
  survives moe 6 recipes/awq.yaml --model "$scratch/experts" "${symmetric[@]}" --set 'rules[0].scheme.group_size=16' \
    "${data[@]}" --set calibration.samples=64
fi

# An unfinished run: what is left, and who may go on with it. It dies while it waits to read its second block.
run() { quick recipes/gptq.yaml "$scratch/parent/out" --set evaluate=null --journal-every 0 "$@"; }
unfinished() {
  "$PYTHON" - "$scratch/parent/.out.journal" "$QUANTIZE" --recipe recipes/gptq.yaml --output "$scratch/parent/out" --device cpu \
    --set calibration.samples=8 --set calibration.seq_len=256 --set evaluate.rows=4 --set evaluate=null --journal-every 0 "$@" <<'P'
import pathlib, signal, subprocess, sys, time
run = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
journal = pathlib.Path(sys.argv[1])
while not ((journal / "states-2").exists() and not (journal / "states-1").exists()) and run.poll() is None: time.sleep(0.005)
run.send_signal(signal.SIGSTOP)
print(run.pid)
P
}
mkdir "$scratch/parent"
# Nothing to go on from: a job that always asks for it begins, and says so.
mkdir "$scratch/parent/fresh"
"$QUANTIZE" --recipe recipes/rtn.yaml --output "$scratch/parent/fresh/out" --device cpu --set calibration=null --set evaluate=null --resume >/dev/null 2>"$scratch/err"
grep -q "resume: no run of it was left unfinished (there is no .out.journal beside it): it starts from the beginning" "$scratch/err" ||
  fail "nothing said of a fresh start: $(cat "$scratch/err")"
refuses 2 "already exists" "$QUANTIZE" --recipe recipes/rtn.yaml --output "$scratch/parent/fresh/out" --device cpu --set calibration=null --resume
rm -rf "$scratch/parent/fresh"
ids=$scratch/ids.safetensors
run --dump-ids "$ids" --dry-run >/dev/null
refuses 2 "holds other token ids than this run's" run --dump-ids "$ids" --resume --set calibration.samples=4
refuses 2 "--resume: has nothing to do beside --no-journal" run --resume --no-journal
process=$(unfinished)
refuses 2 "process $process is writing it" run
refuses 2 "process $process is writing it" run --resume
kill -9 "$process"
[[ $(ls -A "$scratch/parent" | tr '\n' ' ') == ".out.journal .out.lock .out.partial-$process " ]] || fail "left: $(ls -A "$scratch/parent")"
[[ $(ls "$scratch/parent/.out.journal" | tr '\n' ' ') == "journal states-2 " ]] || fail "in the journal: $(ls "$scratch/parent/.out.journal")"
refuses 2 "a run of it was left unfinished (.out.journal beside it): pass --resume to go on" run
refuses 2 "rules[0].scheme.bits was 4 and is 3" run --resume --set 'rules[0].scheme.bits=3'
refuses 2 "calibration_ids was" run --resume --calib data/text/evaluation.txt
copy_model "$scratch/model"
refuses 2 'recipe.model was "data/models/lathe-tiny" and is' run --resume --model "$scratch/model"
cp "$QUANTIZE" "$scratch/other"; printf 'x' >>"$scratch/other"; cp "$(dirname "$QUANTIZE")"/liblathe_*.so "$scratch"
QUANTIZE="$scratch/other" refuses 2 "build.files.program was" run --resume

# A damaged tail, and damaged hidden states: said, and done again.
cp -r "$scratch/parent/.out.journal" "$scratch/kept"
again() { "$QUANTIZE" --recipe recipes/gptq.yaml --output "$scratch/parent/out" --device cpu --set calibration.samples=8 \
    --set calibration.seq_len=256 --set evaluate=null --resume 2>"$scratch/err" >/dev/null || fail "no resume: $(tail -1 "$scratch/err")"; }
whole() {
  rm -rf "$scratch/parent/out.was"; mv "$scratch/parent/out" "$scratch/parent/out.was"
  for file in model.safetensors config.json README.md; do
    cmp "$scratch/whole/$file" "$scratch/parent/out.was/$file" || fail "$file differs after: $1"
  done
  rm -rf "$scratch/parent/.out.journal"; cp -r "$scratch/kept" "$scratch/parent/.out.journal"
}
printf 'torn' >>"$scratch/parent/.out.journal/journal"
again
grep -q 'resume: 2 of 6 blocks are finished' "$scratch/err" || fail "not gone on: $(cat "$scratch/err")"
grep -q 'warning: .* are no whole record; they are cut off' "$scratch/err" || fail "nothing said of the tail: $(cat "$scratch/err")"
cp -r "$scratch/parent/out" "$scratch/whole"
whole "a torn tail"
printf 'x' | dd of="$scratch/parent/.out.journal/states-2" bs=1 seek=1000 conv=notrunc status=none
again
grep -q 'resume: 0 of 6 blocks are finished' "$scratch/err" || fail "damaged states were used: $(cat "$scratch/err")"
grep -q 'hidden states before block 2 are damaged' "$scratch/err" || fail "nothing said of the states: $(cat "$scratch/err")"
whole "damaged states"
run --no-journal --overwrite
whole "no interruption"
rm -rf "$scratch/parent"; mkdir "$scratch/parent"

# Interrupted by a signal, and by a disk that is full: the message says how to go on, and there is room again.
process=$(unfinished)
kill -INT "$process"; kill -CONT "$process"
while kill -0 "$process" 2>/dev/null; do sleep 0.05; done
[[ $(ls -A "$scratch/parent") == .out.journal ]] || fail "after a signal: $(ls -A "$scratch/parent")"
run --resume
rm -rf "$scratch/parent/out"
full=(--set calibration.samples=2 --set output.shard_size=1MB --set 'rules[0].scheme.bits=8')
(ulimit -f 3000; trap '' XFSZ; refuses 2 ".out.journal/journal: can't be written: File too large; what was finished is kept in" run "${full[@]}")
[[ $(ls -A "$scratch/parent") == .out.journal ]] || fail "after a full disk: $(ls -A "$scratch/parent")"
run --resume "${full[@]}"
mv "$scratch/parent/out" "$scratch/full"
run --no-journal "${full[@]}"
for file in "$scratch"/full/*.safetensors; do
  cmp "$file" "$scratch/parent/out/$(basename "$file")" || fail "$file differs after a full disk"
done
[[ $(ls -A "$scratch/parent") == out ]] || fail "left behind: $(ls -A "$scratch/parent")"

# The plan counts what is kept; a limit on files that has no room for it refuses, and --no-journal does without.
"$QUANTIZE" --recipe recipes/gptq.yaml --output "$scratch/none" --dry-run >"$scratch/plan"
grep -q 'journal on disk, for --resume' "$scratch/plan" || fail "the plan says nothing of the journal: $(cat "$scratch/plan")"
refuses 2 "--max-disk" quick recipes/gptq.yaml "$scratch/none" --max-disk 1MB
quick recipes/gptq.yaml "$scratch/none" --max-disk 1MB --no-journal --set evaluate=null
