# Writes, syncs, renames and the like that fail (EIO) or find the disk full: one clear line each, nothing half-written, and the run
# goes on once the disk is sound; of runs, and of all else that writes files. PLACES=20 lets more of each call fail;
# tests/e2e/torture_failing_disk.sh does.
. tests/e2e/lib.sh
PLACES=${PLACES:-2}
fails() {  # NAME SEED [--again=FLAG] COMMAND...
  local name=$1 seed=$2 again=--again=--overwrite; shift 2
  if [[ $1 == --again=* ]]; then again=$1; shift; fi
  "$PYTHON" tests/tools/fail_and_resume.py "$QUANTIZE" "$scratch/$name" --places "$PLACES" --seed "$seed" "$again" -- "$@" \
    >"$scratch/log" || fail "$name: $(tail -3 "$scratch/log")"
  echo "$name: $(cat "$scratch/log")"
}
run=(--device cpu --quiet --journal-every 0 --set evaluate=null)
data=(--set calibration.samples=2 --set calibration.seq_len=64)
fails weights_only 1 --recipe recipes/rtn.yaml "${run[@]}" --set calibration=null
fails gptq 2 --recipe recipes/gptq.yaml "${run[@]}" "${data[@]}" --set output.shard_size=2MB
fails gguf 3 --recipe recipes/gguf.yaml "${run[@]}" --set calibration=null
fails layout 4 --recipe recipes/rtn.yaml "${run[@]}" --set calibration=null "${symmetric[@]}" --set 'output.formats=[compressed-tensors, marlin]'
fails kv_cache 5 --recipe recipes/kv-kivi.yaml "${run[@]}" "${data[@]}" --dump-ids '{folder}/ids.safetensors'
fails spilled 6 --recipe recipes/rtn.yaml "${run[@]}" --set calibration.samples=16 --set calibration.seq_len=256 --max-ram 300MB --work '{folder}' --no-journal

"$QUANTIZE" --recipe recipes/rtn.yaml "${run[@]}" --set calibration=null "${symmetric[@]}" --output "$scratch/made" >/dev/null
fails convert 7 convert --model "$scratch/made" --to gptq --quiet --shard-size 2MB
fails convert_to_layout 8 convert --model "$scratch/made" --to marlin --quiet
fails junit 9 --again= compare "$scratch/made" --json --reference "$MODEL" --text data/text/evaluation.txt --ctx 32 --rows 1 --device cpu \
  --junit '{folder}/results.xml' --fail-if 'kl>100'
fails sensitivity 10 sensitivity --recipe recipes/sensitivity.yaml --device cpu --quiet "${data[@]}" --set sensitivity.held_out=1 \
  --set 'candidates=[{scheme: {bits: 4}}]'
