#!/usr/bin/env bash
# SpQR artefacts, made by the real binary, in spqr_quant.
#   spqr.sh LOGITS_PROGRAM DEQUANTIZE_PROGRAM     (QUANTIZE and PYTHON as in tests/e2e/lib.sh)
. tests/e2e/lib.sh
cmp -s tests/bench/quality/peers/spqr_quant.txt build/peers/spqr_quant/installed || skip "needs spqr_quant's environment: make test-peers"
make_artefact() { quick recipes/spqr.yaml "$scratch/$1" --set evaluate=null "${@:2}"; }
make_artefact shipped
# Columns as they stand, many outliers, part of the model, several shards.
make_artefact part --set 'rules[0].solver.spqr={act_order: none, select: density, density: 0.02}' \
  --set "ignore=[lm_head, '/layers\\.5\\.mlp/']" --set output.shard_size=1MB
build/peers/spqr_quant/bin/python tests/peer/consumers/spqr_logits.py "$1" "$2" "$MODEL" "$scratch/shipped" "$scratch/part" \
  >"$scratch/log" 2>"$scratch/errors" || { cat "$scratch/log"; fail "$(tail -3 "$scratch/errors")"; }
grep '^{' "$scratch/log"
(($(grep -c '"folder"' "$scratch/log") == 2)) || fail "not every case was checked"
