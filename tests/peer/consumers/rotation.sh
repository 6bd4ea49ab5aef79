#!/usr/bin/env bash
# Artefacts with rotated inputs (transform hadamard) under compressed-tensors' own transforms.
#   rotation.sh LOGITS_PROGRAM     (QUANTIZE and PYTHON as in tests/e2e/lib.sh)
. tests/e2e/lib.sh
logits=$1
export LATHE_BLAS=torch  # as in activations.sh
"$PYTHON" -c 'import transformers, compressed_tensors.transform' 2>/dev/null || skip "needs transformers and compressed-tensors"
# check NAME BLOCK SHARE [flags...]: as in floats.sh.
check() {
  local name=$1 block=$2 share=$3; shift 3
  quick recipes/rtn.yaml "$scratch/$name" --set evaluate=null --set verify.max_kl=null --set 'output.formats=[compressed-tensors]' --set "transforms=[{hadamard: {block: $block}}]" "$@"
  "$PYTHON" tests/peer/consumers/rotation.py "$MODEL" "$scratch/$name" "$logits" $share || fail "$name"
}
check int4 64 "" --set 'rules[0].scheme={bits: 4, group_size: 64, symmetric: false}'
check nvfp4-weights 16 "" --set 'rules[0]={scheme: {type: nvfp4}}'
check mxfp4-weights 128 "" --set 'rules[0]={scheme: {type: mxfp4}}'
check nvfp4 16 0.3 --set 'rules[0]={scheme: {type: nvfp4}, activations: {type: nvfp4}}'
check mxfp4 32 0.5 --set 'rules[0]={scheme: {type: mxfp4}, activations: {type: mxfp4}}'
