# More than fifty moments at which a run is killed and gone on with, by chance and at writes, for every solver and kind of run.
# SEED chooses other moments.
. tests/e2e/lib.sh
SEED=${SEED:-100}
kills=0
data=(--set calibration.samples=4 --set calibration.seq_len=128)
survives() {  # NAME CASES KILLS RECIPE [flags...]
  local name=$1 cases=$2 each=$3 recipe=$4; shift 4
  "$PYTHON" tests/tools/kill_and_resume.py "$QUANTIZE" "$scratch/$name" --cases "$cases" --kills "$each" --seed $((SEED++)) -- \
    --recipe "$recipe" --device cpu --set evaluate.rows=1 --set evaluate.ctx=128 "$@" \
    >"$scratch/log" || fail "$name: $(tail -3 "$scratch/log")"
  echo "$name: $(cat "$scratch/log")"
  kills=$((kills + $(cut -d' ' -f1 "$scratch/log")))
}
survives gptq 5 3 recipes/gptq.yaml "${data[@]}"
survives awq 4 2 recipes/awq.yaml "${data[@]}"
survives awq_gptq_gguf 4 2 recipes/awq-gptq.yaml "${data[@]}" --set 'output.formats=[compressed-tensors, gguf:q4_k_m]' --set report.activations=true
survives spqr 3 2 recipes/spqr.yaml "${data[@]}"
survives smoothquant 3 2 recipes/smoothquant.yaml "${data[@]}"
survives two_streams_on_disk 4 3 recipes/kv-fp8.yaml "${data[@]}" --max-ram 330MB
survives hqq_calibrated 3 2 recipes/rtn.yaml "${data[@]}" --set 'rules[0].solver={hqq: {}}' --set report.activations=true
survives hqq_weights_only 6 2 recipes/hqq.yaml
survives rtn_weights_only 4 2 recipes/rtn.yaml --set calibration=null --set 'output.formats=[compressed-tensors, awq]' --set 'rules[0].scheme.group_size=128'
survives nvfp4 3 2 recipes/nvfp4.yaml "${data[@]}"
survives shards 3 2 recipes/rtn.yaml "${data[@]}" --set output.shard_size=500KB
if "$PYTHON" -c 'import transformers' 2>/dev/null; then
  vocab=$(value "$MODEL/config.json" "r['vocab_size']")
  checkpoint "$scratch/experts" qwen2_moe "{\"vocab_size\": $vocab, \"num_experts\": 5}" --idle-expert
  survives moe 4 2 recipes/awq.yaml --model "$scratch/experts" "${symmetric[@]}" --set 'rules[0].scheme.group_size=16' "${data[@]}"
fi
((kills >= 50)) || fail "only $kills runs were killed"
echo "$kills kills survived"
