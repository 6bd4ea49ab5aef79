#!/usr/bin/env bash
# GGUF files of several types, made by the real binary, in transformers' own loader (gguf_file=), which needs accelerate.
#   gguf_transformers.sh LOGITS_PROGRAM     (QUANTIZE and PYTHON as in tests/e2e/lib.sh)
. tests/e2e/lib.sh
logits=$1
cmp -s tests/bench/quality/peers/llmc.txt build/peers/llmc/installed || skip "needs LLM Compressor's environment (accelerate): make test-peers"
types=(F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K_M Q4_K_M Q5_K_M Q6_K IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4)
formats=$(printf ',"gguf:%s"' "${types[@]}")
quick recipes/gguf.yaml "$scratch/tiny" --set evaluate=null --set "output.formats=[${formats:1}]"
build/peers/llmc/bin/python tests/peer/consumers/gguf_transformers.py "$logits" "$MODEL" "$scratch"/tiny/gguf-*/lathe-tiny-*.gguf \
  >"$scratch/log" 2>"$scratch/errors" || { cat "$scratch/log"; fail "$(tail -3 "$scratch/errors")"; }
grep '^{' "$scratch/log"
(($(grep -c '^{' "$scratch/log") == ${#types[@]})) || fail "not every type was checked"
