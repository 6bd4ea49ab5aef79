#!/usr/bin/env bash
# Artefacts in vLLM's CPU build: those that the plan calls fine load and give the same log-probabilities, those that it warns of
# are refused, and so are those for which this build has no kernel, each with the words that it is refused with today. `quantize
# inspect` says the same: it knows a kernel (of a GPU, for those), or none.
#   vllm.sh LOGITS_PROGRAM     (QUANTIZE and PYTHON as in tests/e2e/lib.sh)
. tests/e2e/lib.sh
logits=$1
export LATHE_BLAS=torch  # as in activations.sh
cmp -s tests/bench/quality/peers/vllm.txt build/peers/vllm/installed || skip "needs vLLM's environment: make test-peers"
make_artefact() { quick recipes/gptq.yaml "$scratch/$1" --set evaluate=null "${symmetric[@]}" --set "output.formats=[$2]" "${@:3}"; }
solve() { echo "rules=[{targets: [linear], scheme: {type: int, $1}, solver: {gptq: {act_order: desc, static_groups: ${2:-true}}}}]"; }
# Weights rounded to nearest: what is looked at is how they are stored.
round() { quick recipes/rtn.yaml "$scratch/$1" --set evaluate=null --set "output.formats=[$2]" "${@:3}"; }
floats() { quick recipes/fp8-dynamic.yaml "$scratch/$1" --set evaluate=null --set "output.formats=[$2]" "${@:3}"; }
# Does inspect know a kernel of vLLM's for each scheme?
verdict() {
  "$QUANTIZE" inspect "$scratch/$1" --json >"$scratch/verdict"
  holds "$scratch/verdict" "(lambda rows: bool(rows) and all(any(c['kernel'] and 1 in c['tensor_parallel'] for c in rows if c['linears'] == k)
    for k in {c['linears'] for c in rows}))([c for c in r['consumers'] if c['consumer'].split(' on ')[0].split(' with ')[0] == 'vLLM']) == $2"
}
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
# INT4 weights with INT8 activations, which its kernel for CPUs rounds with a zero point, whatever the artefact says; with FP8 ones.
w4a8() { quick recipes/w4a8.yaml "$scratch/$1" --set evaluate=null --set "rules[0].activations.$2"; }
w4a8 w4a8 symmetric=false
w4a8 w4afp8 type=fp8_e4m3
floats fp8-dynamic 'compressed-tensors, modelopt'
floats fp8-static 'compressed-tensors, modelopt' --set 'rules[0]={scheme: {type: fp8_e4m3, per: tensor}, activations: {type: fp8_e4m3, dynamic: false}}'
floats fp8-block compressed-tensors --set 'rules[0]={scheme: {type: fp8_e4m3, per: block}, activations: {type: fp8_e4m3, per: group}}'
floats fp8-weights compressed-tensors --set 'rules[0].activations=null'
for type in nvfp4 mxfp4; do floats "$type-weights" compressed-tensors --set "rules[0]={scheme: {type: $type}}"; done
for type in nvfp4 mxfp4 mxfp8; do
  floats "$type" "$([[ $type == nvfp4 ]] && echo 'compressed-tensors, modelopt' || echo compressed-tensors)" \
    --set "rules[0]={scheme: {type: $type}, activations: {type: $type}}"
done
quick recipes/kv-fp8.yaml "$scratch/kv-fp8" --set evaluate=null
round rotated compressed-tensors --set 'rules[0].scheme={bits: 4, group_size: 64, symmetric: true}' --set 'transforms=[{hadamard: {block: 32}}]'
for bits in 3 8; do round "bits$bits-weights" compressed-tensors --set "rules[0].scheme={bits: $bits, group_size: 64, symmetric: true}"; done
round bits8-channel compressed-tensors --set 'rules[0].scheme={bits: 8, group_size: -1, symmetric: true}'
round bits8-asymmetric compressed-tensors --set 'rules[0].scheme={bits: 8, group_size: 64, symmetric: false}'
round int4 modelopt --set 'rules[0].scheme={bits: 4, group_size: 128, symmetric: true}'
mlp='{targets: [mlp], scheme: {bits: 4, group_size: 64, symmetric: false}}'
round two-groups compressed-tensors --set "rules=[$mlp, {targets: [attention], scheme: {bits: 4, group_size: 32, symmetric: true}}]"
round two-kinds compressed-tensors --set "rules=[$mlp, {targets: [attention], scheme: {bits: 8, group_size: -1, symmetric: true}, activations: {}}]"
round two-widths compressed-tensors --set "rules=[$mlp, {targets: [attention], scheme: {bits: 8, group_size: -1, symmetric: true}}]"

cases=()
# in_vllm HOW NAME...
in_vllm() { for name in "${@:2}"; do verdict "$name" True; cases+=("$1:$scratch/$name"); done; }
# no_kernel 'what it says' NAME...: a GPU has one.
no_kernel() { for name in "${@:2}"; do verdict "$name" True; cases+=("refuses:$1:$scratch/$name"); done; }
# refused 'what it says' NAME: by every build.
refused() { verdict "$2" False; cases+=("refuses:$1:$scratch/$2"); }
for name in several/gptq several/awq part/gptq part/awq mixed asymmetric/awq; do warned "$name" False; done
for name in desc_act bits3 zeros groups; do warned "$name" True; done
in_vllm loads several/compressed-tensors several/gptq several/gptq-v2 several/awq part/gptq part/awq mixed asymmetric/awq \
  asymmetric/compressed-tensors two-groups
in_vllm rotates rotated
in_vllm rounds w8a8-dynamic w8a8-static two-kinds w4a8
in_vllm agrees fp8-dynamic/compressed-tensors
in_vllm "same:$scratch/fp8-dynamic/compressed-tensors" fp8-dynamic/modelopt
in_vllm cache kv-fp8
refused 'desc_act=True) is no longer supported' desc_act
refused 'bits=3, sym=True' bits3
refused 'bits=4, sym=False' zeros
refused 'Marlin does not support group_size = 16' groups
refused 'ModelOpt currently only supports' int4
no_kernel 'Quant type (uint8b128) not supported by CPUWNA16' bits8-weights bits8-channel two-widths
no_kernel 'Quant type (uint8) not supported by CPUWNA16' bits8-asymmetric
no_kernel 'Quant type (uint3b4) not supported by CPUWNA16' bits3-weights
no_kernel 'No compressed-tensors compatible scheme was found' w4afp8
no_kernel 'static_scaled_fp8_quant() expected at most 0 argument' fp8-static/compressed-tensors
no_kernel "'_C' object has no attribute 'silu_and_mul_quant'" fp8-static/modelopt
no_kernel 'kernel that can implement the ScaledMM linear layer' fp8-weights
grep -qw amx_tile /proc/cpuinfo || no_kernel 'CPUFp8BlockScaledMMKernel requires AMX tile support' fp8-block
no_kernel 'MarlinNvFp4LinearKernel is not supported' nvfp4-weights
no_kernel 'kernel that can implement the NVFP4 linear layer' nvfp4/compressed-tensors nvfp4/modelopt
no_kernel 'kernel that can implement the MXFP4 linear layer' mxfp4-weights mxfp4
no_kernel 'kernel that can implement the MXFP8 linear layer' mxfp8
in_build() {  # MODEL CASE...
  build/peers/vllm/bin/python tests/peer/consumers/vllm_logprobs.py "$logits" "$@" >>"$scratch/log" 2>"$scratch/errors" ||
    { grep '^{' "$scratch/log" || true; fail "$(grep -vE '^$' "$scratch/errors" | tail -3)"; }
}
in_build "$MODEL" "${cases[@]}"
# A head of its own weight (ParallelLMHead there, which is no Linear).
"$PYTHON" tests/tools/untie_head.py "$MODEL" "$scratch/untied"
make_artefact head 'compressed-tensors, gptq, gptq-v2' --model "$scratch/untied" --set 'ignore=[]'
all=("${cases[@]}") cases=()
in_vllm loads head/compressed-tensors head/gptq head/gptq-v2
in_build "$scratch/untied" "${cases[@]}"
cases+=("${all[@]}")
grep '^{' "$scratch/log"  # the library prints much beside
(($(grep -c '^{' "$scratch/log") == ${#cases[@]})) || fail "not every case was checked"
