#!/usr/bin/env bash
# GPTQ and AWQ artefacts of several schemes, made by the real binary, in GPTQModel and in transformers through it.
#   gptqmodel.sh LOGITS_PROGRAM     (QUANTIZE and PYTHON as in tests/e2e/lib.sh)
. tests/e2e/lib.sh
logits=$(realpath "$1")
cmp -s tests/bench/quality/peers/gptqmodel.txt build/peers/gptqmodel/installed || skip "needs GPTQModel's environment: make test-peers"
root=$PWD
make_artefact() { quick recipes/gptq.yaml "$scratch/$1" --set evaluate=null "${symmetric[@]}" --set "output.formats=[$2]" "${@:3}"; }
solve() { echo "rules=[{targets: [linear], scheme: {type: int, $1}, solver: {gptq: {act_order: desc, static_groups: ${2:-true}}}}]"; }
kept="ignore=[lm_head, '/layers\\.5\\.mlp/']"
make_artefact several 'gptq, gptq-v2, awq'
make_artefact asymmetric 'gptq, gptq-v2, awq' --set "$(solve 'bits: 4, group_size: 64, symmetric: false')"
make_artefact bits3-desc_act gptq-v2 --set "$(solve 'bits: 3, group_size: 64, symmetric: false' false)"
make_artefact bits2 gptq-v2 --set "$(solve 'bits: 2, group_size: 32, symmetric: false')"
make_artefact bits8-desc_act gptq --set "$(solve 'bits: 8, group_size: 128, symmetric: true' false)"
make_artefact part 'gptq, awq' --set "$kept" --set 'output.shard_size=1MB'
make_artefact mixed gptq --set "$kept" \
  --set 'rules=[{targets: [mlp], scheme: {bits: 4, group_size: 64}, solver: {rtn: {}}}, {targets: [attention], scheme: {bits: 8, group_size: -1}, solver: {rtn: {}}}]'
"$QUANTIZE" convert --model "$scratch/asymmetric/awq" --to gptq-v2 --output "$scratch/converted" --quiet
# A mixture of experts, of its own reference.
"$PYTHON" tests/tools/make_checkpoint.py "$scratch/moe" --family qwen3_moe --tokenizer "$MODEL" --config "{\"vocab_size\": 4096}" >/dev/null 2>&1 ||
  fail "no checkpoint of qwen3_moe"
quick recipes/rtn.yaml "$scratch/experts" "${symmetric[@]}" --model "$scratch/moe" --set calibration=null --set evaluate=null --set 'output.formats=[gptq]' \
  --set 'rules[0].scheme.group_size=16'
"$PYTHON" tests/tools/untie_head.py "$MODEL" "$scratch/untied"
make_artefact head 'gptq, gptq-v2' --model "$scratch/untied" --set 'ignore=[]'
cases=()
for folder in several/gptq several/gptq-v2 several/awq asymmetric/gptq-v2 asymmetric/awq bits3-desc_act bits2 bits8-desc_act part/gptq part/awq converted; do
  cases+=("gptqmodel:$scratch/$folder" "transformers:$scratch/$folder")
done
cd "$scratch"  # the library writes logs where it runs
"$root/build/peers/gptqmodel/bin/python" "$root/tests/peer/consumers/gptqmodel_logits.py" "$logits" "$root/$MODEL" "${cases[@]}" "gptqmodel:$scratch/mixed" "transformers:$scratch/asymmetric/gptq" >"$scratch/log" 2>"$scratch/errors" ||
  fail "$(tail -3 "$scratch/errors")"
# Zero points of version 1 GPTQModel's own loader takes from itself alone: what our table of consumers says of it.
! "$root/build/peers/gptqmodel/bin/python" "$root/tests/peer/consumers/gptqmodel_logits.py" "$logits" "$root/$MODEL" "gptqmodel:$scratch/asymmetric/gptq" >/dev/null 2>"$scratch/errors" ||
  fail "GPTQModel reads asymmetric files of version 1 now"
grep -q 'sym=False model with format' "$scratch/errors" || fail "$(tail -3 "$scratch/errors")"
"$root/build/peers/gptqmodel/bin/python" "$root/tests/peer/consumers/gptqmodel_logits.py" "$logits" "$scratch/moe" "gptqmodel:$scratch/experts" >>"$scratch/log" 2>"$scratch/errors" ||
  fail "$(tail -3 "$scratch/errors")"
# A head of its own weight, which transformers doesn't look for.
"$root/build/peers/gptqmodel/bin/python" "$root/tests/peer/consumers/gptqmodel_logits.py" "$logits" "$scratch/untied" "gptqmodel:$scratch/head/gptq" "gptqmodel:$scratch/head/gptq-v2" >>"$scratch/log" 2>"$scratch/errors" ||
  fail "$(tail -3 "$scratch/errors")"
! "$root/build/peers/gptqmodel/bin/python" "$root/tests/peer/consumers/gptqmodel_logits.py" "$logits" "$scratch/untied" "transformers:$scratch/head/gptq" >/dev/null 2>"$scratch/errors" ||
  fail "transformers reads a quantised head in GPTQ now"
grep -q "missing_keys: {'lm_head.weight'}" "$scratch/errors" || fail "$(tail -3 "$scratch/errors")"
grep '^{' "$scratch/log"  # the library prints much beside
(($(grep -c '^{' "$scratch/log") == 2 * 11 + 5)) || fail "not every case was checked"
