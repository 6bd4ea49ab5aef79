# Where a limit asks for it solvers work in the Gram matrix's place and in parts: the smallest limit that a refusal names holds in a
# control group of that size, where one can be made, and the bytes are those of a run without a limit.
. tests/e2e/lib.sh
vocabulary=$(value "$MODEL/config.json" "r['vocab_size']")
"$PYTHON" tests/tools/make_sparse_model.py "$scratch/model" --blocks 2 --dense-blocks 2 --rows "$vocabulary" --tokenizer "$MODEL" \
  --shape "{\"hidden_size\": 768, \"intermediate_size\": 4352, \"num_attention_heads\": 12, \"num_key_value_heads\": 4,
    \"head_dim\": 64, \"vocab_size\": $vocabulary}" >/dev/null
within() { "$PYTHON" tests/tools/within_memory.py "$1" --report "$scratch/group.json" -- "${@:2}"; }
if ! within 1000000000 true 2>"$scratch/stderr"; then
  echo "not enforced by the kernel: $(cat "$scratch/stderr")"
  within() { "${@:2}"; }
fi
for share in 0 0.5; do
  run=("$QUANTIZE" --recipe recipes/gptq.yaml --model "$scratch/model" --device cpu --quiet --overwrite --no-journal
    --set evaluate=null --set calibration.samples=4 --set calibration.seq_len=128
    --set "rules[0].solver.gptq.match_reference=$share")
  "${run[@]}" --output "$scratch/free" --max-ram 8GB
  holds "$scratch/free/report.json" "r['memory']['planned']['disk'] == 0"
  refuses 2 "--max-ram" "${run[@]}" --output "$scratch/none" --max-ram 100MB
  least=$(grep -oE -- '--max-ram [0-9]+MiB' "$scratch/stderr" | grep -oE '[0-9]+')
  within $((least << 20)) "${run[@]}" --output "$scratch/least" --max-ram "${least}MiB" || fail "exit code $? within $least MiB"
  holds "$scratch/least/report.json" "r['memory']['peak']['ram'] <= $least << 20"
  holds "$scratch/least/report.json" "37_000_000 < r['memory']['peak']['disk'] <= r['memory']['planned']['disk']"
  cmp "$scratch/free/model.safetensors" "$scratch/least/model.safetensors" || fail "match_reference $share: the limit changed the result"
  used "match_reference $share" "$(value "$scratch/least/report.json" "r['memory']['peak']['ram'] >> 20")" "$least"
  echo "match_reference $share: planned without a limit $(value "$scratch/free/report.json" "r['memory']['planned']['ram'] >> 20") MiB," \
    "least $least MiB with peak $(value "$scratch/least/report.json" "r['memory']['peak']['ram'] >> 20") MiB"
done
