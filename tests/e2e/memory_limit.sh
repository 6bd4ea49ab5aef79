# A limit on memory that bites is kept: the smallest that a refusal names does for a run, the measured peak is within it, the
# model's bytes are those of a run without one, and a limit below it is refused. All blocks at once would not fit.
. tests/e2e/lib.sh
vocabulary=$(value "$MODEL/config.json" "r['vocab_size']")
checkpoint "$scratch/model" llama \
  "{\"num_hidden_layers\": 12, \"hidden_size\": 768, \"intermediate_size\": 2048, \"num_attention_heads\": 12,
    \"num_key_value_heads\": 4, \"head_dim\": 64, \"vocab_size\": $vocabulary, \"max_position_embeddings\": 512}"
run() {  # OUTPUT [flags...]
  local output=$1; shift
  "$QUANTIZE" --recipe recipes/rtn.yaml --model "$scratch/model" --output "$output" --device cpu --quiet \
    --set evaluate=null --set calibration.samples=16 --set calibration.seq_len=64 "$@"
}
run "$scratch/free" >/dev/null
refuses 2 "--max-ram" run "$scratch/none" --max-ram 100MB
least=$(grep -oE -- '--max-ram [0-9]+MiB' "$scratch/stderr" | grep -oE '[0-9]+')
# (A step of 8 MiB is left for what differs from run to run, and the program's memory is counted in such steps.)
refuses 2 "--max-ram" run "$scratch/none" --max-ram "$((least - 17))MiB"
run "$scratch/least" --max-ram "${least}MiB" >/dev/null
holds "$scratch/least/report.json" "r['memory']['peak']['ram'] <= r['memory']['limits']['ram']"
planned=$(value "$scratch/free/report.json" "r['memory']['planned']['ram'] >> 20")
blocks=$((12 * 4 * (2 * 768 * 768 + 2 * 256 * 768 + 3 * 768 * 2048) >> 20))
((least < planned)) || fail "the limit of $least MiB does not bite: $planned MiB are planned without it"
((least < blocks + 150)) || fail "$least MiB hold all $blocks MiB of blocks"
cmp "$scratch/free/model.safetensors" "$scratch/least/model.safetensors" || fail "the limit changed the result"
peak=$(value "$scratch/least/report.json" "r['memory']['peak']['ram'] >> 20")
used rtn "$peak" "$least"
echo "planned without a limit $planned MiB, least $least MiB with peak $peak MiB"
