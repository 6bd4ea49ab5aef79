# A limit on memory is kept by a run that scores its artefact, too, where the vocabulary is larger than all else: the smallest
# limit that the refusal names does, the measured peak is within it, and no head stands in memory as a whole, still less two.
# A GGUF file's embedding and head are rounded and read back by pieces, too: what the plan says of the run without the score
# holds the verification at its end as well.
. tests/e2e/lib.sh
vocabulary=200000 width=256
checkpoint "$scratch/model" llama \
  "{\"num_hidden_layers\": 1, \"hidden_size\": $width, \"intermediate_size\": 512, \"num_attention_heads\": 4,
    \"num_key_value_heads\": 2, \"head_dim\": 64, \"vocab_size\": $vocabulary, \"max_position_embeddings\": 512,
    \"tie_word_embeddings\": true}" --dtype bfloat16
run() {  # RECIPE OUTPUT [flags...]
  local recipe=$1 output=$2; shift 2
  "$QUANTIZE" --recipe "recipes/$recipe.yaml" --model "$scratch/model" --output "$output" --device cpu --quiet \
    --set calibration.samples=4 --set calibration.seq_len=64 "$@"
}
head=$((vocabulary * width * 4 >> 20))
for case in "rtn 128 2" "rtn 512 3" "gguf 128 2"; do
  read -r recipe ctx count <<<"$case"
  scored=(--set "evaluate.ctx=$ctx" --set "evaluate.rows=$count")
  bare=$(run "$recipe" "$scratch/none" --set evaluate=null --dry-run | sed -n 's/^memory     at most \([0-9]*\).* MiB.*/\1/p')
  refuses 2 "evaluation does not fit" run "$recipe" "$scratch/refused" "${scored[@]}" --max-ram "$((bare + 8))MiB"
  grep -qF "evaluate: null" "$scratch/stderr" || fail "no way out is named: $(cat "$scratch/stderr")"
  least=$(grep -oE -- '--max-ram [0-9]+MiB' "$scratch/stderr" | grep -oE '[0-9]+')
  refuses 2 "--max-ram" run "$recipe" "$scratch/refused" "${scored[@]}" --max-ram "$((least - 17))MiB"
  refuses 2 "--max-ram" run "$recipe" "$scratch/refused" "${scored[@]}" --max-ram 50MiB
  named=$(grep -oE -- '--max-ram [0-9]+MiB' "$scratch/stderr" | grep -oE '[0-9]+')
  ((named + 8 >= least)) || fail "50 MiB: the limit that is named, $named MiB, would be refused: the score needs $least"
  run "$recipe" "$scratch/$recipe-$ctx" "${scored[@]}" --max-ram "${least}MiB" >/dev/null
  report=$scratch/$recipe-$ctx/report.json
  peak=$(value "$report" "r['memory']['peak']['ram'] >> 20")
  holds "$report" "r['memory']['peak']['ram'] <= r['memory']['limits']['ram']"
  used "$recipe, ctx $ctx" "$peak" "$least"
  holds "$report" "r['evaluation']['tokens'] == $count * ($ctx - 1)"
  ((least < bare + head)) || fail "$least MiB hold a head of $head MiB beside $bare MiB"
  if ((ctx == 128)); then
    # A step more: what the program holds is counted in steps of 8 MiB, and falls over an edge at times.
    run "$recipe" "$scratch/$recipe-bare" --set evaluate=null --max-ram "$((bare + 9))MiB" >/dev/null
    echo "$recipe, not scored: $((bare + 9)) MiB with peak $(value "$scratch/$recipe-bare/report.json" "r['memory']['peak']['ram'] >> 20") MiB"
    holds "$scratch/$recipe-bare/report.json" "r['memory']['peak']['ram'] <= r['memory']['limits']['ram']"
  fi
  echo "$recipe, ctx $ctx: least $least MiB with peak $peak MiB, $bare MiB planned unscored"
done
