# A limit on memory is kept by a run that scores its artefact, too, where the vocabulary is larger than all else: the smallest
# limit that the refusal names does, the measured peak is within it, and no head stands in memory as a whole, still less two.
. tests/e2e/lib.sh
vocabulary=160000 width=320
checkpoint "$scratch/model" llama \
  "{\"num_hidden_layers\": 1, \"hidden_size\": $width, \"intermediate_size\": 320, \"num_attention_heads\": 5,
    \"num_key_value_heads\": 1, \"head_dim\": 64, \"vocab_size\": $vocabulary, \"max_position_embeddings\": 512,
    \"tie_word_embeddings\": true}" --dtype bfloat16
run() {  # OUTPUT [flags...]
  local output=$1; shift
  "$QUANTIZE" --recipe recipes/rtn.yaml --model "$scratch/model" --output "$output" --device cpu --quiet \
    --set calibration.samples=4 --set calibration.seq_len=64 --set rules[0].scheme.group_size=64 "$@"
}
run "$scratch/none" --set evaluate=null >/dev/null
bare=$(value "$scratch/none/report.json" "r['memory']['planned']['ram'] + (1 << 20) - 1 >> 20")
head=$((vocabulary * width * 4 >> 20))
for rows in "128 2" "512 3"; do
  read -r ctx count <<<"$rows"
  scored=(--set "evaluate.ctx=$ctx" --set "evaluate.rows=$count")
  refuses 2 "evaluation does not fit" run "$scratch/refused" "${scored[@]}" --max-ram "${bare}MiB"
  grep -qF "evaluate: null" "$scratch/stderr" || fail "no way out is named: $(cat "$scratch/stderr")"
  least=$(grep -oE -- '--max-ram [0-9]+MiB' "$scratch/stderr" | grep -oE '[0-9]+')
  refuses 2 "--max-ram" run "$scratch/refused" "${scored[@]}" --max-ram "$((least - 1))MiB"
  run "$scratch/scored-$ctx" "${scored[@]}" --max-ram "${least}MiB" >/dev/null
  report=$scratch/scored-$ctx/report.json
  holds "$report" "r['memory']['peak']['ram'] <= r['memory']['limits']['ram']"
  holds "$report" "r['evaluation']['tokens'] == $count * ($ctx - 1)"
  ((least < bare + head)) || fail "$least MiB hold a head of $head MiB beside $bare MiB"
  echo "ctx $ctx: least $least MiB with peak $(value "$report" "r['memory']['peak']['ram'] >> 20") MiB, $bare MiB planned unscored"
done
