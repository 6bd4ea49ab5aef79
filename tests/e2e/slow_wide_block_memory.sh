# The promise on memory at the width of an 8B model, where the Gram matrix of down_proj's input is a third of it: blocks of
# hidden 4096, intermediate 14336, 32 heads of 128 and 8 of keys and values.
. tests/e2e/lib.sh
vocabulary=$(value "$MODEL/config.json" "r['vocab_size']")
hidden=4096 inner=14336 samples=4 length=512
checkpoint "$scratch/model" llama \
  "{\"num_hidden_layers\": 2, \"hidden_size\": $hidden, \"intermediate_size\": $inner, \"num_attention_heads\": 32,
    \"num_key_value_heads\": 8, \"head_dim\": 128, \"vocab_size\": $vocabulary, \"max_position_embeddings\": 512}"
block=$((4 * (2 * hidden * hidden + 2 * 1024 * hidden + 3 * hidden * inner + 2 * hidden)))
gram=$((4 * (3 * hidden * hidden + inner * inner)))
states=$((4 * samples * length * hidden))
# within RECIPE STREAMS [flags...]: match_reference runs the unquantised model along, and keeps its hidden states and matrices, too.
within() {
  local recipe=$1 streams=$2 bound peak planned; shift 2
  bound=$((2 * block + streams * (gram + states) + 300000000))
  "$QUANTIZE" --recipe "recipes/$recipe.yaml" --model "$scratch/model" --output "$scratch/out" --device cpu --quiet --overwrite \
    --set evaluate.rows=2 --set calibration.samples=$samples --set calibration.seq_len=$length "$@" >/dev/null
  peak=$(value "$scratch/out/report.json" "r['memory']['peak']['ram']")
  planned=$(value "$scratch/out/report.json" "r['memory']['planned']['ram']")
  ((peak <= bound)) || fail "$recipe: peak $((peak >> 20)) MiB, the bound is $((bound >> 20)) MiB"
  ((peak <= planned)) || fail "$recipe: peak $((peak >> 20)) MiB, planned were $((planned >> 20)) MiB"
  echo "$recipe, streams: $streams: peak $((peak >> 20)) MiB of $((bound >> 20)), planned $((planned >> 20))"
}
within rtn 1
within awq 1 --set 'transforms[0].awq.grid=2' --set 'transforms[0].awq.clip_grid=2'
within gptq 1 --set 'rules[0].solver.gptq.match_reference=0'
within gptq 2

# A quantised head of Llama 3's 128,256 tokens, more than two blocks' weights: what is planned holds, calibrated and not.
rm -rf "$scratch/model" "$scratch/out"
"$PYTHON" tests/tools/make_sparse_model.py "$scratch/head" --blocks 1 --tokenizer "$MODEL" --shape "{\"hidden_size\": $hidden, \"intermediate_size\": $inner,
  \"num_attention_heads\": 32, \"num_key_value_heads\": 8, \"head_dim\": 128, \"vocab_size\": 128256, \"max_position_embeddings\": 512, \"rms_norm_eps\": 1e-5}" >/dev/null
planned_holds() {
  local peak planned
  "$QUANTIZE" --recipe recipes/rtn.yaml --model "$scratch/head" --output "$scratch/out" --device cpu --quiet --overwrite --set 'ignore=[]' \
    --set evaluate=null --set 'rules[0].scheme.symmetric=true' "$@" >/dev/null
  peak=$(value "$scratch/out/report.json" "r['memory']['peak']['ram']")
  planned=$(value "$scratch/out/report.json" "r['memory']['planned']['ram']")
  holds "$scratch/out/report.json" "any(l['role'] == 'lm_head' for l in r['linears'])"
  ((peak <= planned)) || fail "head: peak $((peak >> 20)) MiB, planned were $((planned >> 20)) MiB"
  echo "head, $*: peak $((peak >> 20)) MiB, planned $((planned >> 20))"
}
planned_holds --set calibration.samples=$samples --set calibration.seq_len=$length
planned_holds --set calibration=null
