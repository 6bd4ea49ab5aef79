#!/usr/bin/env bash
# FP8 checkpoints are read as transformers reads them.     fp8_input.sh LOGITS_PROGRAM DEQUANTIZE_PROGRAM
. tests/e2e/lib.sh
export LATHE_BLAS=torch  # as in activations.sh
for flags in "--block 128 128" "--block 128 64 --scales e8m0" "--block 64 256 --stored bfloat16" ""; do
  rm -rf "$scratch"/*
  # shellcheck disable=SC2086
  "$PYTHON" tests/tools/make_fp8_model.py quantise "$MODEL" "$scratch/fp8" $flags
  "$2" "$scratch/fp8" "$scratch/plain"
  "$PYTHON" tests/peer/consumers/fp8_input.py "$scratch/fp8" "$scratch/plain" "$1"
done
