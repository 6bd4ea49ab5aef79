# A conversion takes the memory of one linear, however many blocks there are.
. tests/e2e/lib.sh
config='{"hidden_size": 1024, "intermediate_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 64, "num_hidden_layers":'
peak() {
  "$PYTHON" tests/tools/make_checkpoint.py "$scratch/model$1" --family llama --config "$config $1}" >/dev/null 2>&1
  "$QUANTIZE" --recipe recipes/rtn.yaml --model "$scratch/model$1" --device cpu --threads 1 --quiet --output "$scratch/out$1" \
    --set calibration=null --set evaluate=null
  local bytes  # of a process of its own: children of the one before count, too, where a shell becomes its last command
  bytes=$("$PYTHON" -c 'import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); print(1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)' \
    "$QUANTIZE" convert --model "$scratch/out$1" --to awq --output "$scratch/awq$1" --threads 1 --quiet)
  echo "$bytes"
}
few=$(peak 2) many=$(peak 24)
written=$(stat -c %s "$scratch/awq24/model.safetensors")
echo "peak with 2 blocks $few, with 24 blocks $many, which take $written bytes"
# Pages of mapped files that the system reads around a tensor come and go; holding what was read would be all of `written`.
((many < few + written / 2)) || fail "22 more blocks take $((many - few)) bytes more"
