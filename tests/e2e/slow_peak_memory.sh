# A CPU run takes at most two blocks, the Gram matrices of one, the hidden states and 300 MB; and never more than a limit. Where
# the unquantised model runs beside (match_reference), there are two streams of hidden states, and two matrices of an input.
. tests/e2e/lib.sh
vocabulary=$(value "$MODEL/config.json" "r['vocab_size']")
checkpoint "$scratch/model" llama \
  "{\"num_hidden_layers\": 3, \"hidden_size\": 1536, \"intermediate_size\": 4096, \"num_attention_heads\": 12,
    \"num_key_value_heads\": 4, \"head_dim\": 128, \"vocab_size\": $vocabulary, \"max_position_embeddings\": 512}"
samples=24 length=256
device=auto  # as users run it
[[ -e /dev/nvidiactl ]] && device=cpu
run() {  # RECIPE OUTPUT [flags...]
  local recipe=$1 output=$2; shift 2
  "$QUANTIZE" --recipe "recipes/$recipe.yaml" --model "$scratch/model" --output "$output" --device $device --quiet \
    --set evaluate=null --set calibration.samples=$samples --set calibration.seq_len=$length "$@"
}
block=$((4 * (2 * 1536 * 1536 + 2 * 512 * 1536 + 3 * 1536 * 4096 + 2 * 1536)))
gram=$((4 * (3 * 1536 * 1536 + 4096 * 4096)))
hidden=$((4 * samples * length * 1536))
for case in rtn awq gptq gptq-one-stream spqr; do
  recipe=${case%-one-stream} flags=() bound=$((2 * block + gram + hidden + 300000000))
  case $case in
    awq) flags=(--set 'transforms[0].awq.grid=4') ;;
    gptq) bound=$((bound + gram + hidden)) ;;
    gptq-one-stream) flags=(--set 'rules[0].solver.gptq.match_reference=0') ;;
  esac
  run $recipe "$scratch/$case" "${flags[@]}" >/dev/null
  peak=$(value "$scratch/$case/report.json" "r['memory']['peak']['ram']")
  ((peak <= bound)) || fail "$case: peak $peak, the bound is $bound"
  refuses 2 "--max-ram" run $recipe "$scratch/none" "${flags[@]}" --max-ram 100MB
  least=$(grep -oE -- '--max-ram [0-9]+MiB' "$scratch/stderr" | cut -d' ' -f2)
  run $recipe "$scratch/$case-least" "${flags[@]}" --max-ram "$least" >/dev/null
  holds "$scratch/$case-least/report.json" "r['memory']['peak']['ram'] <= r['memory']['limits']['ram']"
  diff -rq -x manifest.json -x README.md -x 'report.*' "$scratch/$case" "$scratch/$case-least" ||
    fail "$case: the limit changed the result"
  echo "$case: peak $((peak >> 20)) MiB of $((bound >> 20)), least limit $least with peak" \
    "$(value "$scratch/$case-least/report.json" "r['memory']['peak']['ram'] >> 20") MiB"
done
