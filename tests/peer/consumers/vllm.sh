#!/usr/bin/env bash
# Artefacts in vLLM's CPU build: those that the plan calls fine load and give the same log-probabilities, those that it warns of
# are refused.     vllm.sh LOGITS_PROGRAM     (QUANTIZE and PYTHON as in tests/e2e/lib.sh)
. tests/e2e/lib.sh
logits=$1
export LATHE_BLAS=torch  # as in activations.sh
cmp -s tests/bench/quality/peers/vllm.txt build/peers/vllm/installed || skip "needs vLLM's environment: make test-peers"
make_artefact() { quick recipes/gptq.yaml "$scratch/$1" --set evaluate=null "${symmetric[@]}" --set "output.formats=[$2]" "${@:3}"; }
solve() { echo "rules=[{targets: [linear], scheme: {type: int, $1}, solver: {gptq: {act_order: desc, static_groups: ${2:-true}}}}]"; }
warned() { holds "$scratch/$1/report.json" "any('vLLM (0.32) won' in w for w in r['warnings']) == $2"; }
kept="ignore=[lm_head, '/layers\\.5\\.mlp/']"
make_artefact several 'compressed-tensors, gptq, gptq-v2, awq'
make_artefact part 'gptq, awq' --set "$kept"
make_artefact mixed gptq --set "$kept" \
  --set 'rules=[{targets: [mlp], scheme: {bits: 4, group_size: 64}, solver: {rtn: {}}}, {targets: [attention], scheme: {bits: 4, group_size: 32}, solver: {rtn: {}}}]'
make_artefact asymmetric 'awq, compressed-tensors' --set "$(solve 'bits: 4, group_size: 64, symmetric: false')"
make_artefact desc_act gptq --set "$(solve 'bits: 4, group_size: 64, symmetric: true' false)"
make_artefact bits3 gptq --set "$(solve 'bits: 3, group_size: 64, symmetric: true')"
make_artefact zeros gptq-v2 --set "$(solve 'bits: 4, group_size: 64, symmetric: false')"
make_artefact groups gptq --set "$(solve 'bits: 4, group_size: 16, symmetric: true')"
# INT8 and FP8 weights and activations; a KV cache in FP8.
for kind in dynamic static; do
  quick recipes/smoothquant.yaml "$scratch/w8a8-$kind" --set evaluate=null --set "rules[0].activations={dynamic: $([[ $kind == dynamic ]] && echo true || echo false)}"
done
quick recipes/fp8-dynamic.yaml "$scratch/fp8-dynamic" --set evaluate=null --set 'output.formats=[compressed-tensors]'
quick recipes/kv-fp8.yaml "$scratch/kv-fp8" --set evaluate=null
for name in several/gptq several/awq part/gptq part/awq mixed asymmetric/awq; do warned "$name" False; done
for name in desc_act bits3 zeros groups; do warned "$name" True; done
cases=()
for name in several/compressed-tensors several/gptq several/gptq-v2 several/awq part/gptq part/awq mixed asymmetric/awq asymmetric/compressed-tensors; do cases+=("loads:$scratch/$name"); done
for name in w8a8-dynamic w8a8-static; do cases+=("rounds:$scratch/$name"); done
cases+=("agrees:$scratch/fp8-dynamic" "cache:$scratch/kv-fp8")
for name in desc_act bits3 zeros groups; do cases+=("refuses:$scratch/$name"); done
build/peers/vllm/bin/python tests/peer/consumers/vllm_logprobs.py "$logits" "$MODEL" "${cases[@]}" >"$scratch/log" 2>"$scratch/errors" ||
  { grep '^{' "$scratch/log" || true; fail "$(grep -vE '^$' "$scratch/errors" | tail -3)"; }
grep '^{' "$scratch/log"  # the library prints much beside
(($(grep -c '^{' "$scratch/log") == 17)) || fail "not every case was checked"
