#!/usr/bin/env bash
# Packed weights of every format and layout in their consumers' own GEMM kernels, on a GPU: see gpu_kernels.py.
#   gpu_kernels.sh [--dry]     (QUANTIZE and PYTHON as in tests/e2e/lib.sh; KERNELS: folder of tests/peer/gpu_kernels.sh's libraries)
. tests/e2e/lib.sh
libraries=${KERNELS:-build/peers/gpu_kernels/lib}
[[ -e $libraries/vllm.so ]] || skip "needs the consumers' kernels: tests/peer/gpu_kernels.sh"
[[ ${1:-} == --dry ]] || "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || skip "no GPU"
out=$scratch/artefacts

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# rounded NAME MODEL FORMATS SCHEME: rounds to nearest, without data.
rounded() {
  quick recipes/rtn.yaml "$out/$1" --model "$2" --set calibration=null --set evaluate=null --set "output.formats=[$3]" \
    --set "rules=[{targets: [linear], scheme: {type: int, $4}, solver: {rtn: {}}}]"
}
# Widths that Marlin pads: 192 x 320 to 192 x 384.
padded() {
  checkpoint "$scratch/odd" llama "{\"vocab_size\": $(value "$MODEL/config.json" "r['vocab_size']"), \"hidden_size\": 192, \"intermediate_size\": 320, \"num_attention_heads\": 3, \"num_key_value_heads\": 3, \"head_dim\": 64}"
  rounded sym4-padded "$scratch/odd" 'gptq, gptq-v2, marlin' 'bits: 4, group_size: -1, symmetric: true'
}
# As many at a time as there are cores; one that fails takes along the cases that read it, no others.
start() {
  while (($(jobs -rp | wc -l) >= $(nproc))); do wait -n || true; done
  ("$@" || echo "FAIL: not made: ${*:1:2}" >&2) &
}
start padded
start quick recipes/gptq.yaml "$out/sym4-regrouped" --set evaluate=null --set 'output.formats=[gptq, gptq-v2, marlin, machete, exllama]' \
  --set 'rules=[{targets: [linear], scheme: {type: int, bits: 4, group_size: 128, symmetric: true}, solver: {gptq: {act_order: desc, static_groups: false}}}]'
start quick recipes/fp8-static.yaml "$out/fp8-static" --set evaluate=null
start quick recipes/fp8-dynamic.yaml "$out/fp8-dynamic" --set calibration=null --set evaluate=null --set 'output.formats=[compressed-tensors]'
start quick recipes/fp8-block.yaml "$out/fp8-block" --set calibration=null --set evaluate=null --set 'output.formats=[compressed-tensors]'
start quick recipes/rtn.yaml "$out/int8" --set calibration=null --set evaluate=null \
  --set 'rules=[{targets: [linear], scheme: {type: int, bits: 8, group_size: -1, symmetric: true}, activations: {}, solver: {rtn: {}}}]'
start rounded sym4 "$MODEL" 'gptq, gptq-v2, marlin, machete, exllama' 'bits: 4, group_size: 128, symmetric: true'
start rounded sym8 "$MODEL" 'gptq, gptq-v2, marlin, machete, exllama' 'bits: 8, group_size: 128, symmetric: true'
start rounded sym4-channel "$MODEL" 'gptq, gptq-v2, marlin, machete' 'bits: 4, group_size: -1, symmetric: true'
start rounded sym8-channel "$MODEL" 'gptq, gptq-v2, marlin' 'bits: 8, group_size: -1, symmetric: true'
start rounded asym4 "$MODEL" 'gptq, gptq-v2, awq, awq-gemv, marlin, machete, exllama, awq-gemv-layout, awq-gemv-fast-layout' 'bits: 4, group_size: 128, symmetric: false'
start rounded asym4-channel "$MODEL" 'gptq, gptq-v2, marlin' 'bits: 4, group_size: -1, symmetric: false'
start rounded asym3 "$MODEL" 'gptq, gptq-v2, exllama' 'bits: 3, group_size: 128, symmetric: false'
start rounded asym2 "$MODEL" 'gptq, gptq-v2, exllama' 'bits: 2, group_size: 128, symmetric: false'
wait
"$PYTHON" tests/peer/consumers/gpu_kernels.py "$out" "$libraries" "$@"
