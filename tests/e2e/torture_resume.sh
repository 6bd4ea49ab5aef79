# More than fifty moments at which a run is killed and gone on with, by chance and at writes, for every solver and kind of run.
# SEED chooses other moments.
. tests/e2e/lib.sh
SEED=${SEED:-100}
kills=0
data=(--set calibration.samples=4 --set calibration.seq_len=128)
survives() {  # NAME CASES KILLS RECIPE [flags...]
  local name=$1 cases=$2 each=$3 recipe=$4; shift 4
  "$PYTHON" tests/tools/kill_and_resume.py "$QUANTIZE" "$scratch/$name" --cases "$cases" --kills "$each" --seed $((SEED++)) -- \
    --recipe "$recipe" --device cpu --journal-every "${EVERY:-0}" --set evaluate.rows=1 --set evaluate.ctx=128 "$@" \
    >"$scratch/log" || fail "$name: $(tail -3 "$scratch/log")"
  echo "$name: $(cat "$scratch/log")"
  kills=$((kills + $(cut -d' ' -f1 "$scratch/log")))
}
survives gptq 5 3 recipes/gptq.yaml "${data[@]}"
survives awq 4 2 recipes/awq.yaml "${data[@]}"
EVERY=1 survives awq_some_boundaries 3 3 recipes/awq.yaml "${data[@]}"
survives awq_gptq_gguf 4 2 recipes/awq-gptq.yaml "${data[@]}" --set 'output.formats=[compressed-tensors, gguf:q4_k_m]' --set report.activations=true
survives spqr 3 2 recipes/spqr.yaml "${data[@]}"
survives smoothquant 3 2 recipes/smoothquant.yaml "${data[@]}"
survives two_streams_on_disk 4 3 recipes/kv-fp8.yaml "${data[@]}" --max-ram 330MB
survives hqq_calibrated 3 2 recipes/rtn.yaml "${data[@]}" --set 'rules[0].solver={hqq: {}}' --set report.activations=true
survives hqq_weights_only 6 2 recipes/hqq.yaml
survives rtn_weights_only 4 2 recipes/rtn.yaml --set calibration=null --set 'output.formats=[compressed-tensors, awq]' --set 'rules[0].scheme.group_size=128'
survives nvfp4 3 2 recipes/nvfp4.yaml "${data[@]}"
survives kivi 3 2 recipes/kv-kivi.yaml "${data[@]}"
survives kvquant 3 2 recipes/kv-kvquant.yaml "${data[@]}"
survives skvq 3 2 recipes/kv-skvq.yaml "${data[@]}"
survives fp8 3 2 recipes/fp8-static.yaml "${data[@]}"
survives mxfp4 3 2 recipes/mxfp4.yaml "${data[@]}"
"$QUANTIZE" sensitivity --recipe recipes/sensitivity.yaml --output "$scratch/measured" --device cpu --quiet "${data[@]}" --set sensitivity.held_out=1
survives mixed 3 2 recipes/mixed-4.25bpw.yaml "${data[@]}" --set sensitivity.held_out=1 --set "sensitivity.file=$scratch/measured/sensitivity.json"
survives shards 3 2 recipes/rtn.yaml "${data[@]}" --set output.shard_size=500KB
if "$PYTHON" -c 'import transformers' 2>/dev/null; then
  vocab=$(value "$MODEL/config.json" "r['vocab_size']")
  checkpoint "$scratch/experts" qwen2_moe "{\"vocab_size\": $vocab, \"num_experts\": 5}" --idle-expert
  survives moe 4 2 recipes/awq.yaml --model "$scratch/experts" "${symmetric[@]}" --set 'rules[0].scheme.group_size=16' "${data[@]}"
fi

# Killed while the disk fills up: at the last moments before there is no room, then gone on with where there is.
fills() {
  mkdir -p "$scratch/disk"
  mount -t tmpfs -o size=64m none "$scratch/disk" 2>/dev/null || { echo "full disk: left out: no permission to mount a small one"; return; }
  trap 'umount "$scratch/disk"; rm -rf "$scratch"' EXIT
  local run=("$QUANTIZE" --recipe recipes/gptq.yaml --device cpu --quiet --set evaluate=null "${data[@]}" --output)
  "$PYTHON" - "$scratch" "$SEED" "${run[@]}" <<'P' >"$scratch/log" || fail "full disk: $(tail -3 "$scratch/log")"
import os, pathlib, random, shutil, signal, subprocess, sys, time
sys.path.insert(0, "tests/tools")
from kill_and_resume import files_of

scratch, dice, command = pathlib.Path(sys.argv[1]), random.Random(int(sys.argv[2])), sys.argv[3:]
disk = scratch / "disk"
out = disk / "out"

def room():
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize

def resize(size):
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)

whole = room()
least = whole
run = subprocess.Popen([*command, str(out)])
while run.poll() is None:
    least = min(least, room())
    time.sleep(0.002)
assert run.returncode == 0
expected, kept = files_of(out), whole - room()
growth = whole - least - kept  # of journal and states, beside the output
shutil.rmtree(out)
kills = full = 0
for case in range(8):
    resize(kept + int(growth * dice.uniform(0.3, 0.9)))
    run = subprocess.Popen([*command, str(out)], stderr=subprocess.DEVNULL)
    left = growth * dice.uniform(0, 0.2)
    while room() > left and run.poll() is None:
        time.sleep(0.0003)
    run.send_signal(signal.SIGKILL)
    kills += run.wait() == -signal.SIGKILL
    full += run.returncode == 2
    resize(whole)
    if run.returncode != 0:
        again = subprocess.run([*command, str(out), "--resume"], stderr=subprocess.PIPE, text=True)
        assert again.returncode == 0, again.stderr
    assert files_of(out) == expected, f"case {case}: differs from an undisturbed run"
    assert [path.name for path in disk.iterdir()] == ["out"], list(disk.iterdir())
    shutil.rmtree(out)
print(f"{kills} kills on a disk that was all but full, {full} runs that ended for want of room")
assert kills >= 3, "hardly a run was killed"
P
  echo "full disk: $(cat "$scratch/log")"
  kills=$((kills + $(cut -d' ' -f1 "$scratch/log")))
}
fills
((kills >= 50)) || fail "only $kills runs were killed"
echo "$kills kills survived"
