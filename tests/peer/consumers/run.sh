#!/usr/bin/env bash
# Artefacts of several schemes, made by the real binary, in their real consumer: transformers with compressed-tensors.
#   run.sh LOGITS_PROGRAM     (QUANTIZE and PYTHON as in tests/e2e/lib.sh)
. tests/e2e/lib.sh
logits=$1
check() {
  local name=$1; shift
  quick recipes/awq.yaml "$scratch/$name" "$@"
  "$PYTHON" tests/peer/consumers/compressed_tensors.py "$MODEL" "$scratch/$name" "$logits"
}
check sym-g128
check asym-g64-sharded --set 'rules[0].scheme.symmetric=false' --set 'rules[0].scheme.group_size=64' --set output.shard_size=1MB
check bits3-channel --set 'rules[0].scheme.bits=3' --set 'rules[0].scheme.group_size=-1'
check bits8-part --set 'rules[0].scheme.bits=8' --set 'ignore=[lm_head, attention]'
