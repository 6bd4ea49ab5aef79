#!/usr/bin/env bash
# An artefact of every family whose tensors are special (fused, extra norms, experts spelt out or stacked), in its real
# consumer: transformers with compressed-tensors loads it and computes what Lathe computes.
#   families.sh LOGITS_PROGRAM     (QUANTIZE and PYTHON as in tests/e2e/lib.sh)
. tests/e2e/lib.sh
logits=$1
"$PYTHON" -c 'import transformers, compressed_tensors' 2>/dev/null || skip "needs transformers and compressed-tensors"
vocab=$(value "$MODEL/config.json" "r['vocab_size']")

rules=(--set 'rules[0].scheme.group_size=16' "${symmetric[@]}")
# check FAMILY [flags of make_checkpoint.py...]
check() {
  local family=$1; shift
  rm -rf "$scratch/model" "$scratch/out"
  "$PYTHON" tests/tools/make_checkpoint.py "$scratch/model" --family "$family" --tokenizer "$MODEL" \
    --config "{\"vocab_size\": $vocab}" "$@" >/dev/null 2>&1 || fail "no checkpoint of $family"
  quick recipes/awq.yaml "$scratch/out" --model "$scratch/model" "${rules[@]}" \
    --set calibration.samples=4 --set calibration.seq_len=64 --set evaluate.ctx=64
  "$PYTHON" tests/peer/consumers/same_logits.py "$scratch/model" "$scratch/out" "$logits" || fail "$family $*"
}
check gemma2
check gemma3_text
check gemma3
check gemma3 --stacked-experts  # the names of transformers 5
check phi3
check mixtral
check mixtral --stacked-experts
check qwen2_moe
check qwen3_moe --stacked-experts
check olmoe

# Experts of other bits than the rest, on either side of it in the forward pass: transformers looks for their scheme.
scheme() { echo "{targets: [$1], scheme: {bits: $2, group_size: 16}}"; }
rules=(--set "rules=[$(scheme attention 4), $(scheme expert 8)]")
check mixtral
rules=(--set "rules=[$(scheme expert 8), $(scheme linear 4)]")
check qwen2_moe
