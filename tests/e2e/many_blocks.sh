# Memory does not grow with the number of blocks: a sparse checkpoint of two depths through RTN, HQQ and GPTQ of its first block,
# each within LIMIT bytes of RAM, in a control group of that size where one can be made. (In the long version, torture_70b.sh, SHAPE is
# Llama 3 70B's.)
. tests/e2e/lib.sh
vocabulary=$(value "$MODEL/config.json" "r['vocab_size']")
SHAPE=${SHAPE:-"{\"hidden_size\": 512, \"intermediate_size\": 1536, \"num_attention_heads\": 8, \"num_key_value_heads\": 4,
  \"head_dim\": 64, \"vocab_size\": $vocabulary}"}
LIMIT=${LIMIT:-300000000}
read -ra depths <<<"${DEPTHS:-6 48}"
read -ra gptq_depths <<<"${GPTQ_DEPTHS:-2 8}"
read -r gptq_samples gptq_length <<<"${GPTQ_TOKENS:-2 128}"
within() { "$PYTHON" tests/tools/within_memory.py "$LIMIT" --report "$scratch/group.json" -- "$@"; }
if ! within true 2>"$scratch/stderr"; then
  echo "not enforced by the kernel: $(cat "$scratch/stderr")"
  within() { "$@"; }
fi

# rounds NAME LINEARS DEPTH [flags...]: within the limit; so many linears were rounded, and the result was verified.
rounds() {
  local name=$1 linears=$2 depth=$3 report=$scratch/out/report.json; shift 3
  [[ -d $scratch/model$depth ]] || "$PYTHON" tests/tools/make_sparse_model.py "$scratch/model$depth" --blocks "$depth" \
    --rows "$vocabulary" --tokenizer "$MODEL" --shape "$SHAPE"
  within "$QUANTIZE" --model "$scratch/model$depth" --output "$scratch/out" --device cpu --threads 1 --quiet --overwrite \
    --no-journal --set evaluate=null --max-ram "$LIMIT" "$@" || fail "$name, $depth blocks: exit code $? within $LIMIT bytes"
  holds "$report" "r['verification']['passed'] and len(r['linears']) == $linears"
  peak=$(value "$report" "r['memory']['peak']['ram']")
  ((peak <= LIMIT)) || fail "$name, $depth blocks: a peak of $peak bytes, the limit is $LIMIT"
  echo "$name, $depth blocks: peak $((peak >> 20)) MiB of $((LIMIT >> 20)), $(du -s -B 1M "$scratch/out" | cut -f1) MiB written in" \
    "$(value "$report" "round(sum(s['seconds'] for s in r['stages']))") s"
  rm -r "$scratch/out"
}
# grows NAME PEAK...: the deepest model's peak is not above the first one's but for what two runs of the same model differ by, by
# the way that reading, writing and checking happen to overlap (28 MB were seen). The 42 blocks between hold 67 MB even in 4 bits.
grows() {
  local name=$1 first=$2 last=${!#}
  ((last < first + first / 16 + 32000000)) || fail "$name: more blocks take $((last - first)) bytes more"
}

for recipe in rtn hqq; do
  peaks=()
  for depth in "${depths[@]}"; do
    rounds "$recipe" $((7 * depth)) "$depth" --recipe "recipes/$recipe.yaml" --set calibration=null
    peaks+=("$peak")
  done
  grows "$recipe" "${peaks[@]}"
done
peaks=()
for depth in "${gptq_depths[@]}"; do  # blocks that no rule matches run all the same, and are kept
  rounds gptq 7 "$depth" --recipe recipes/gptq.yaml --set 'rules[0].targets=[/layers\.0\./]' \
    --set 'rules[0].solver.gptq.match_reference=0' --set "calibration.samples=$gptq_samples" \
    --set "calibration.seq_len=$gptq_length"
  peaks+=("$peak")
done
grows gptq "${peaks[@]}"
