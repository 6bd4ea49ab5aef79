#!/usr/bin/env bash
# An artefact of every family whose tensors are special (fused, extra norms, experts spelt out or stacked), in its real
# consumer: transformers with compressed-tensors loads it and computes what Lathe computes.
#   families.sh LOGITS_PROGRAM     (QUANTIZE and PYTHON as in tests/e2e/lib.sh)
. tests/e2e/lib.sh
logits=$1
"$PYTHON" -c 'import transformers, compressed_tensors' 2>/dev/null || skip "needs transformers and compressed-tensors"
vocab=$(value "$MODEL/config.json" "r['vocab_size']")

# check FAMILY [flags of make_checkpoint.py...]
check() {
  local family=$1; shift
  rm -rf "$scratch/model" "$scratch/out"
  "$PYTHON" tests/tools/make_checkpoint.py "$scratch/model" --family "$family" --tokenizer "$MODEL" \
    --config "{\"vocab_size\": $vocab}" "$@" >/dev/null 2>&1 || fail "no checkpoint of $family"
  quick recipes/awq.yaml "$scratch/out" --model "$scratch/model" --set 'rules[0].scheme.group_size=16' \
    --set calibration.samples=4 --set calibration.seq_len=64 --set evaluate.ctx=64
  "$PYTHON" tests/peer/consumers/same_logits.py "$scratch/model" "$scratch/out" "$logits" || fail "$family $*"
}
check gemma2
check gemma3_text
check phi3
check mixtral
check mixtral --stacked-experts
check qwen2_moe
check qwen3_moe --stacked-experts
check olmoe
