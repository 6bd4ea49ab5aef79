#!/usr/bin/env bash
# Artefacts of several schemes, made by the real binary, in their real consumer: transformers with compressed-tensors.
#   run.sh LOGITS_PROGRAM     (QUANTIZE and PYTHON as in tests/e2e/lib.sh)
. tests/e2e/lib.sh
logits=$1
share=
recipe=awq
check() {
  local name=$1; shift
  quick "recipes/$recipe.yaml" "$scratch/$name" --set evaluate=null "$@"
  "$PYTHON" tests/peer/consumers/compressed_tensors_logits.py "$MODEL" "$scratch/$name" "$logits" $share
}
check sym-g128 "${symmetric[@]}"
check asym-g64-sharded --set 'rules[0].scheme.symmetric=false' --set 'rules[0].scheme.group_size=64' --set output.shard_size=1MB
check bits3-channel --set 'rules[0].scheme.bits=3' --set 'rules[0].scheme.group_size=-1'
check two-groups --set 'rules=[{targets: [mlp], scheme: {bits: 4, group_size: 64}}, {targets: [attention], scheme: {bits: 8, group_size: -1, symmetric: false}}]'
share=0.3  # a value of the cache beside the middle of two codes, rounded the other way, is seen by all later tokens
check kv-fp8 --set 'kv_cache={type: float}'
check kv-int8 --set 'kv_cache={type: int}'
check kv-fp8-heads --set 'kv_cache={type: float, per: head}'
share=
check bits8-part --set 'rules[0].scheme.bits=8' --set 'ignore=[lm_head, attention]'
# A head of its own weight.
"$PYTHON" tests/tools/untie_head.py "$MODEL" "$scratch/untied"
recipe=gptq
tied=$MODEL MODEL=$scratch/untied
check head --model "$scratch/untied" --set 'ignore=[]'
MODEL=$tied
# The other widths, whose codes cross the edges of words (5, 6, 7) or fill them; how they were rounded doesn't matter.
recipe=rtn
for bits in 2 5 6 7; do check "bits$bits" --set "rules[0].scheme.bits=$bits" --set 'rules[0].scheme.group_size=64'; done
