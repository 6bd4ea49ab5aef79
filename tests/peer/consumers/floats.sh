#!/usr/bin/env bash
# FP8, NVFP4, MXFP4 and MXFP8 artefacts in their real consumer: transformers with compressed-tensors, which computes with the values that
# Lathe says, activations included.     floats.sh LOGITS_PROGRAM     (QUANTIZE and PYTHON as in tests/e2e/lib.sh)
. tests/e2e/lib.sh
logits=$1
export LATHE_BLAS=torch  # as in activations.sh
"$PYTHON" -c 'import transformers, compressed_tensors' 2>/dev/null || skip "needs transformers and compressed-tensors"
same="$PYTHON tests/peer/consumers/same_logits.py"
# check NAME SHARE [flags...]: as in activations.sh.
check() {
  local name=$1 share=$2; shift 2
  quick recipes/fp8-dynamic.yaml "$scratch/$name" --set evaluate=null --set 'output.formats=[compressed-tensors]' "$@"
  $same "$MODEL" "$scratch/$name" "$logits" $share || fail "$name"
}
check fp8-weights "" --set 'rules[0].activations=null'
check fp8-tensor "" --set 'rules[0]={scheme: {type: fp8_e4m3, per: tensor}}'
check fp8-static 0.5 --set 'rules[0]={scheme: {type: fp8_e4m3, per: tensor}, activations: {type: fp8_e4m3, dynamic: false}}'
check fp8-dynamic 0.23
check fp8-block 0.15 --set 'rules[0]={scheme: {type: fp8_e4m3, per: block}, activations: {type: fp8_e4m3, per: group}}'
check nvfp4-weights "" --set 'rules[0]={scheme: {type: nvfp4}}'
check mxfp4-weights "" --set 'rules[0]={scheme: {type: mxfp4}}'
check mxfp8-weights "" --set 'rules[0]={scheme: {type: mxfp8}}'
# Steps of MX are powers of two, which the last bit of an input seldom moves.
for type in nvfp4:0.5 mxfp4:0.9 mxfp8:0.9; do
  check "${type%:*}" "${type#*:}" --set "rules[0]={scheme: {type: ${type%:*}}, activations: {type: ${type%:*}}}"
done
