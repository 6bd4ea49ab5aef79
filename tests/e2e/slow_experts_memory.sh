# A CPU run of a mixture of experts keeps to the bound that every model has (two blocks, the Gram matrices of one, the hidden
# states and 300 MB), although what its experts' collectors hold at once, mostly rows that wait for their chunks, would be
# more; and never takes more than a limit.
. tests/e2e/lib.sh
"$PYTHON" -c 'import transformers' 2>/dev/null || skip "needs transformers to make a checkpoint"
vocabulary=$(value "$MODEL/config.json" "r['vocab_size']")
hidden=1024 width=128 experts=32 samples=32 length=256
checkpoint "$scratch/model" qwen3_moe \
  "{\"num_hidden_layers\": 2, \"hidden_size\": $hidden, \"moe_intermediate_size\": $width, \"num_experts\": $experts,
    \"num_experts_per_tok\": 8, \"num_attention_heads\": 8, \"num_key_value_heads\": 2, \"head_dim\": 64,
    \"vocab_size\": $vocabulary, \"max_position_embeddings\": 512}"
device=auto  # as users run it
[[ -e /dev/nvidiactl ]] && device=cpu
run() {  # RECIPE OUTPUT [flags...]
  local recipe=$1 output=$2; shift 2
  "$QUANTIZE" --recipe "recipes/$recipe.yaml" --model "$scratch/model" --output "$output" --device $device --quiet \
    --set evaluate=null --set calibration.samples=$samples --set calibration.seq_len=$length "$@"
}
block=$((4 * (2 * 512 * hidden + 2 * 128 * hidden + experts * hidden + 3 * experts * width * hidden + 2 * hidden + 128)))
gram=$((4 * (hidden * hidden + 512 * 512 + experts * (hidden * hidden + width * width))))
bound=$((2 * block + gram + 4 * samples * length * hidden + 300000000))
for recipe in rtn awq; do
  flags=(); [[ $recipe == awq ]] && flags=(--set 'transforms[0].awq.grid=2' --set 'transforms[0].awq.clip_grid=2')
  run $recipe "$scratch/$recipe" "${flags[@]}" >/dev/null
  peak=$(value "$scratch/$recipe/report.json" "r['memory']['peak']['ram']")
  planned=$(value "$scratch/$recipe/report.json" "r['memory']['planned']['ram']")
  ((peak <= bound)) || fail "$recipe: peak $((peak >> 20)) MiB, the bound is $((bound >> 20)) MiB"
  ((peak <= planned)) || fail "$recipe: peak $((peak >> 20)) MiB, planned were $((planned >> 20)) MiB"
  refuses 2 "--max-ram" run $recipe "$scratch/none" "${flags[@]}" --max-ram 100MB
  least=$(grep -oE -- '--max-ram [0-9]+MiB' "$scratch/stderr" | cut -d' ' -f2)
  run $recipe "$scratch/$recipe-least" "${flags[@]}" --max-ram "$least" >/dev/null
  holds "$scratch/$recipe-least/report.json" "r['memory']['peak']['ram'] <= r['memory']['limits']['ram']"
  echo "$recipe: peak $((peak >> 20)) MiB of $((bound >> 20)), planned $((planned >> 20)), least limit $least with peak" \
    "$(value "$scratch/$recipe-least/report.json" "r['memory']['peak']['ram'] >> 20") MiB"
done
