# Writes, syncs, renames and the like that fail (EIO) or find the disk full: one clear line each, nothing half-written, and the run
# goes on once the disk is sound. PLACES=20 lets more of each call fail; tests/e2e/torture_failing_disk.sh does.
. tests/e2e/lib.sh
PLACES=${PLACES:-2}
fails() {  # NAME SEED RECIPE [flags...]
  local name=$1 seed=$2 recipe=$3; shift 3
  "$PYTHON" tests/tools/fail_and_resume.py "$QUANTIZE" "$scratch/$name" --places "$PLACES" --seed "$seed" -- --recipe "$recipe" --device cpu \
    --set evaluate=null "$@" >"$scratch/log" || fail "$name: $(tail -3 "$scratch/log")"
  echo "$name: $(cat "$scratch/log")"
}
fails weights_only 1 recipes/rtn.yaml --set calibration=null
fails gptq 2 recipes/gptq.yaml --set calibration.samples=2 --set calibration.seq_len=64 --set output.shard_size=2MB
fails gguf 3 recipes/gguf.yaml --set calibration=null
