#!/usr/bin/env bash
# W8A8 and W4A8 artefacts in their real consumer: transformers with compressed-tensors rounds activations as Lathe simulates it.
#   activations.sh LOGITS_PROGRAM     (QUANTIZE and PYTHON as in tests/e2e/lib.sh)
. tests/e2e/lib.sh
logits=$1
# With the products that transformers has: a sum that another library rounds otherwise turns a code here and there, and the token
# is another one from there on.
export LATHE_BLAS=torch
"$PYTHON" -c 'import transformers, compressed_tensors' 2>/dev/null || skip "needs transformers and compressed-tensors"
same="$PYTHON tests/peer/consumers/same_logits.py"
# check NAME SHARE [flags...]: share of tokens that must agree where scales are dynamic (a last bit of a scale turns codes, and a
# wrong rounding agrees on none), half of what is measured; empty: all logits.
recipe=smoothquant
check() {
  local name=$1 share=$2; shift 2
  quick "recipes/$recipe.yaml" "$scratch/$name" --set evaluate=null "$@"
  $same "$MODEL" "$scratch/$name" "$logits" $share || fail "$name"
}
check dynamic-sym 0.055
check dynamic-asym 0.4 --set 'rules[0].activations.symmetric=false'
check static-sym "" --set 'rules[0].activations={dynamic: false}'
check static-asym "" --set 'rules[0].activations={dynamic: false, symmetric: false}'
check mixed-precision 0.05 --set 'rules=[{targets: [down_proj], scheme: {bits: 4, group_size: 64}}, {scheme: {bits: 8, group_size: -1}, activations: {}}]'
# A head of its own weight, whose input is rounded, too.
"$PYTHON" tests/tools/untie_head.py "$MODEL" "$scratch/untied"
tied=$MODEL MODEL=$scratch/untied
check head "" --model "$scratch/untied" --set 'ignore=[]' --set 'rules[0].activations={dynamic: false}'
MODEL=$tied
recipe=w4a8
check w4a8 0.14
check w4a8-channel-asym 0.1 --set 'rules[0].scheme.group_size=-1' --set 'rules[0].activations.symmetric=false'
check w4afp8 0.26 --set 'rules[0].activations.type=fp8_e4m3'

# Families with fused weights, norms of 1 + w and biases.
vocab=$(value "$MODEL/config.json" "r['vocab_size']")
for family in gemma2 phi3 qwen2; do
  rm -rf "$scratch/model" "$scratch/out"
  "$PYTHON" tests/tools/make_checkpoint.py "$scratch/model" --family "$family" --tokenizer "$MODEL" \
    --config "{\"vocab_size\": $vocab}" >/dev/null 2>&1 || fail "no checkpoint of $family"
  quick recipes/smoothquant.yaml "$scratch/out" --model "$scratch/model" --set evaluate=null --set calibration.samples=4 \
    --set calibration.seq_len=64 --set 'rules[0].activations={dynamic: false}' --set 'transforms[0].smoothquant.alpha=0.5'
  $same "$scratch/model" "$scratch/out" "$logits" || fail "$family"
done
