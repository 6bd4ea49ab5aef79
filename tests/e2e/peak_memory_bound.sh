# A CPU run without limits takes at most two blocks, the Gram matrices of one block's inputs, the hidden states and 300 MB: of a model
# whose other blocks would not fit beside. Where the unquantised model runs along (match_reference), there are two streams of hidden states
# and two matrices of an input. One block is quantised, for time. With names of recipes as arguments: of those,
# with all blocks.
. tests/e2e/lib.sh
vocabulary=$(value "$MODEL/config.json" "r['vocab_size']")
hidden=1536 intermediate=4096 kv=256 samples=2 length=256
checkpoint "$scratch/model" llama \
  "{\"num_hidden_layers\": 5, \"hidden_size\": $hidden, \"intermediate_size\": $intermediate, \"num_attention_heads\": 12,
    \"num_key_value_heads\": 2, \"head_dim\": 128, \"vocab_size\": $vocabulary, \"max_position_embeddings\": 512}"
block=$((4 * (2 * hidden * hidden + 2 * kv * hidden + 3 * hidden * intermediate + 2 * hidden)))
gram=$((4 * (3 * hidden * hidden + intermediate * intermediate)))
states=$((4 * samples * length * hidden))
broken=() targets=()
(($# > 0)) || targets=(--set 'rules[0].targets=["/layers\\.1\\./"]')
# within RECIPE STREAMS [flags...]
within() {
  local recipe=$1 streams=$2 report bound peak seconds; shift 2
  bound=$((2 * block + streams * (gram + states) + 300000000))
  grep -q "^calibration: null" "recipes/$recipe.yaml" ||
    set -- "$@" --set "calibration.samples=$samples" --set "calibration.seq_len=$length"
  "$QUANTIZE" --recipe "recipes/$recipe.yaml" --model "$scratch/model" --output "$scratch/out" --device cpu --quiet \
    --set evaluate=null "${targets[@]}" "$@" >/dev/null
  report=$(find "$scratch/out" -name report.json | head -1)  # of each format one
  read -r peak seconds <<<"$(value "$report" "'%d %.0f' % (r['memory']['peak']['ram'], sum(s['seconds'] for s in r['stages']))")"
  rm -r "$scratch/out"
  echo "$recipe: peak $((peak >> 20)) MiB of $((bound >> 20)), in $seconds s"
  ((peak <= bound)) || broken+=("$recipe: peak $peak, the bound is $bound")
}
if (($# > 0)); then
  for recipe in "$@"; do
    streams=1
    grep -q "match_reference: 0\.5" "recipes/$recipe.yaml" && streams=2
    within "$recipe" $streams
  done
else
  within rtn 1
  within hqq 1
  within gguf 1 --set 'output.formats=[gguf:q4_0]'
  within fp8-static 1
  within awq 1 --set 'transforms[0].awq.grid=4'
  within smoothquant 1 --set 'transforms[0].smoothquant.alpha=0.5'
  within gptq 1 --set 'rules[0].solver.gptq.match_reference=0'
  within gptq 2
fi
((${#broken[@]} == 0)) || fail "${broken[*]}"
