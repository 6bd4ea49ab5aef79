#!/usr/bin/env bash
# hqq artefacts of all bit widths and both axes, of fitted and of integer zero points, made by the real binary, in the hqq library.
#   hqq.sh LOGITS_PROGRAM     (QUANTIZE and PYTHON as in tests/e2e/lib.sh)
. tests/e2e/lib.sh
logits=$1
cmp -s tests/bench/quality/peers/hqq.txt build/peers/hqq/installed || skip "needs hqq's environment: make test-peers"
cases=()
make_artefact() {  # NAME 'bits: 4, ...'
  "$QUANTIZE" --recipe recipes/hqq.yaml --device cpu --quiet --output "$scratch/$1" --set evaluate=null \
    --set "rules[0].scheme={group_size: 64, symmetric: false, zero_point: real, $2}" "${@:3}"
  cases+=("$scratch/$1")
}
for bits in 8 6 5 4 3 2; do make_artefact "bits$bits" "bits: $bits"; done
make_artefact bits4-axis0 'bits: 4, axis: 0'
make_artefact bits3-axis0 'bits: 3, axis: 0'
make_artefact bits8-channel 'bits: 8' --set 'rules[0].scheme.group_size=-1'
make_artefact part 'bits: 4' --set "ignore=[lm_head, '/layers\\.5\\.mlp/']" --set output.shard_size=1MB
# Integer grids, by a run and out of another format; symmetric ones' zero points are 2^(bits-1).
quick recipes/awq.yaml "$scratch/integers" --set evaluate=null --set 'output.formats=[compressed-tensors, hqq]'
"$QUANTIZE" convert --model "$scratch/integers/compressed-tensors" --to hqq --output "$scratch/converted" --quiet
quick recipes/rtn.yaml "$scratch/symmetric" --set evaluate=null "${symmetric[@]}" --set 'output.formats=[hqq]'
cases+=("$scratch/integers/hqq" "$scratch/converted" "$scratch/symmetric")
build/peers/hqq/bin/python tests/peer/consumers/hqq_logits.py "$logits" "$MODEL" "${cases[@]}" >"$scratch/log" 2>"$scratch/errors" ||
  { cat "$scratch/log"; fail "$(tail -3 "$scratch/errors")"; }
grep '^{' "$scratch/log"
(($(grep -c '^{' "$scratch/log") == ${#cases[@]})) || fail "not every case was checked"
