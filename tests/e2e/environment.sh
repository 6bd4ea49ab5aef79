# What surrounds a run: names and places, a model that can't be written, stdout that nobody reads, signals, too little memory, a
# model's file that is cut while it is read.
. tests/e2e/lib.sh
small=(--set calibration.samples=2 --set calibration.seq_len=64 --set evaluate=null --device cpu)
quantize=$(realpath "$QUANTIZE") root=$PWD
"$quantize" --recipe recipes/rtn.yaml --output "$scratch/plain" "${small[@]}" --quiet

# Relative paths, with spaces and letters of other alphabets, of recipe, model, data and output.
there="$scratch/mödel und 模型"
copy_model "$there/a model"
cp recipes/rtn.yaml "$there/rézept.yaml"; cp data/text/calibration.txt "$there/текст.txt"
(cd "$there" && "$quantize" --recipe rézept.yaml --model "a model" --calib текст.txt --output "./out/../ausgabe ✓" "${small[@]}" --quiet)
cmp "$scratch/plain/model.safetensors" "$there/ausgabe ✓/model.safetensors" || fail "another place changed the result"
[[ $(ls -A "$there" | wc -l) == 4 ]] || fail "left beside the output: $(ls -A "$there")"
(cd "$there" && "$quantize" verify "ausgabe ✓" --reference "a model" >/dev/null) || fail "verify: other alphabets"
(cd "$there" && refuses 2 "kein Ordner/模型" "$quantize" --recipe rézept.yaml --model "kein Ordner/模型" --output x)

# Nothing is opened for writing in the model's folder.
LD_PRELOAD="$(dirname "$quantize")/libfailing_disk.so" FAIL_UNDER="$there/a model" FAIL_AT=open:1+:EIO FAIL_COUNT="$scratch/counts" \
  "$quantize" --recipe recipes/rtn.yaml --model "$there/a model" --output "$scratch/read-only" "${small[@]}" --quiet
grep -qx 'open 0' "$scratch/counts" || fail "the model's folder was written: $(cat "$scratch/counts")"
cmp "$scratch/plain/model.safetensors" "$scratch/read-only/model.safetensors" || fail "a read-only model changed the result"

# A reader that leaves early, and none at all, cost a run nothing; a full disk for what is printed is said.
{ "$quantize" --recipe recipes/rtn.yaml --output "$scratch/pipe" "${small[@]}" 2>"$scratch/stderr"; echo $? >"$scratch/code"; } | true
[[ $(<"$scratch/code") == 0 && -s $scratch/pipe/report.json ]] || fail "a closed pipe ended the run with $(<"$scratch/code")"
"$quantize" --recipe recipes/rtn.yaml --output "$scratch/closed" "${small[@]}" >&- 2>&- <&- || fail "closed standard streams: $?"
cmp "$scratch/plain/model.safetensors" "$scratch/closed/model.safetensors" || fail "what was printed ended in the artefact"
status=0
"$quantize" list 2>"$scratch/stderr" >/dev/full || status=$?
[[ $status == 2 ]] && grep -q 'is the disk full' "$scratch/stderr" || fail "a full stdout: exit code $status: $(<"$scratch/stderr")"

# Too little address space: the run does well, or says so in one line; never another end.
least=
for megabytes in 600 700 800 900 4000; do
  status=0
  (ulimit -v $((megabytes * 1024)); "$quantize" --recipe recipes/gptq.yaml --output "$scratch/memory" --overwrite "${small[@]}" --quiet) \
    >/dev/null 2>"$scratch/stderr" || status=$?
  grep -q 'error while loading shared libraries' "$scratch/stderr" && continue  # not even begun
  [[ $status == 0 || $status == 2 ]] || fail "ulimit -v of $megabytes MB: exit code $status: $(head -c 400 "$scratch/stderr")"
  [[ $status == 0 || $(wc -l <"$scratch/stderr") == 1 ]] || fail "ulimit -v of $megabytes MB: $(head -c 400 "$scratch/stderr")"
  [[ $status == 2 ]] || least=${least:-$megabytes}
done
[[ -n $least ]] || fail "4000 MB of address space are not enough"

# A model's file that is cut while a run reads it: one line that names it; the run goes on once it is whole again.
mkdir "$scratch/parent"
cut_while_read() {
  "$PYTHON" - "$scratch/parent/.out.journal" "$there/a model/model.safetensors" "$quantize" --recipe "$root/recipes/gptq.yaml" \
    --model "$there/a model" --output "$scratch/parent/out" --device cpu --set calibration.samples=8 --set calibration.seq_len=256 \
    --set evaluate=null --quiet --journal-every 0 <<'P'
import os, pathlib, signal, subprocess, sys, time
journal, model = map(pathlib.Path, sys.argv[1:3])
run = subprocess.Popen(sys.argv[3:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
while not (journal / "states-2").exists() and run.poll() is None: time.sleep(0.005)
run.send_signal(signal.SIGSTOP)
whole, times = model.read_bytes(), os.stat(model)
os.truncate(model, 4096)
run.send_signal(signal.SIGCONT)
_, err = run.communicate(timeout=120)
assert run.returncode == 2, (run.returncode, err)
assert err.count("\n") == 1 and f"{model}: can't be read any more" in err, err
with open(model, "r+b") as file: file.write(whole)
os.utime(model, ns=(times.st_atime_ns, times.st_mtime_ns))
P
}
cut_while_read || fail "a model's file that was cut"
"$quantize" --recipe recipes/gptq.yaml --model "$there/a model" --output "$scratch/parent/out" --device cpu --set calibration.samples=8 \
  --set calibration.seq_len=256 --set evaluate=null --quiet --resume
[[ $(ls -A "$scratch/parent") == out ]] || fail "left behind: $(ls -A "$scratch/parent")"
