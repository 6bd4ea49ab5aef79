#!/usr/bin/env bash
# The GEMM kernels of Lathe's consumers, compiled for tests/peer/consumers/gpu_kernels.py from the source distributions on PyPI:
#   gpu_kernels.sh       prints the folder of the libraries, build/peers/gpu_kernels/lib
#     vllm.so            Marlin, its repacking, ExLlama's and GPTQ's, AWQ's: vLLM 0.32
#     machete.so         Machete and its repacking: vLLM 0.32, with CUTLASS 4.2 (vLLM fetches 4.7, which PyPI doesn't have)
#     exllamav2.so       ExLlamaV2's, as GPTQModel 7.7 carries it
#     awq.so             AutoAWQ's GEMM, GEMV and the fast pair, as GPTQModel 7.7 carries them
# For compute capability 9.0, against the libtorch of build/venv; torch.ops.load_library() opens them. Half an hour on two slow cores;
# does nothing where done, goes on where it was stopped. JOBS: compilers at a time (2), of up to 3 GB. No source of theirs is kept in the
# repository. rm -r build/peers/gpu_kernels starts over, which other flags in this file ask for.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=$PWD/tests/peer/gpu_kernels folder=$PWD/build/peers/gpu_kernels python=${PYTHON:-$PWD/build/venv/bin/python}
export PATH=$PATH:/usr/local/cuda/bin
recipe=$(cat tests/peer/gpu_kernels.sh "$here"/*.* "$here"/include/torch/* | sha256sum | cut -d' ' -f1)
if [[ $(cat "$folder/built" 2>/dev/null) == "$recipe" ]]; then echo "$folder/lib"; exit; fi
mkdir -p "$folder"/{lib,objects}
# unpacked NAME-VERSION SHA256 PATHS...: those paths of a source distribution
unpacked() {
  local name=$1 sum=$2; shift 2
  [[ -e $folder/$name/complete ]] && return
  "$python" "$here/fetch.py" "$folder" "$name.tar.gz" "$sum"
  tar -xzf "$folder/$name.tar.gz" -C "$folder" "${@/#/$name/}"
  rm "$folder/$name.tar.gz"
  touch "$folder/$name/complete"
}
unpacked vllm-0.32.0 d2c957d5eee3d0985012151315ddc62cbe0cd368fc96a5fc3510438d9dddf2ad csrc
unpacked gptqmodel-7.7.0 039874c39fb56ba75b750dd4870968e7fe83b6ca28890a53e94ad3c46be699d0 gptqmodel_ext
if [[ ! -e $folder/cutlass/complete ]]; then
  wheel=nvidia_cutlass-4.2.0.0-py3-none-any.whl
  "$python" "$here/fetch.py" "$folder" "$wheel" f9599ada45c7bcb6bf53f7d3f0a7d154183e53451c01bfa59eecd37dd4a693f6
  "$python" -m zipfile -e "$folder/$wheel" "$folder/cutlass"
  rm "$folder/$wheel"
  touch "$folder/cutlass/complete"
fi
vllm=$folder/vllm-0.32.0/csrc model=$folder/gptqmodel-7.7.0/gptqmodel_ext
marlin=$vllm/quantization/marlin
if ! cmp -s "$here/marlin_instances.py" "$marlin/generated"; then
  "$python" "$here/marlin_instances.py" "$marlin"
  cp "$here/marlin_instances.py" "$marlin/generated"
fi
machete=$vllm/quantization/machete
if ! cmp -s "$here/machete_instances.py" "$machete/generated/made_by"; then
  "$python" "$here/machete_instances.py" "$vllm" "$folder/cutlass"
  cp "$here/machete_instances.py" "$machete/generated/made_by"
fi

packages=$("$python" -c 'import torch, pathlib; print(pathlib.Path(torch.__file__).parents[1])')
torch=$packages/torch toolkit=$packages/nvidia/cu13
common=(nvcc -std=c++20 --expt-relaxed-constexpr -Xcompiler -fPIC -w -static-global-template-stub=false
  -isystem "$torch/include" -isystem "$toolkit/include")
stable=("${common[@]}" -arch=sm_90 -O2 -DTORCH_TARGET_VERSION=0x020B000000000000ULL -DUSE_CUDA -I "$vllm" -I "$marlin")
plain=("${common[@]}" -arch=sm_90 -O2 -I "$here/include" -isystem "$torch/include/torch/csrc/api/include"
  -U__CUDA_NO_HALF_OPERATORS__ -U__CUDA_NO_HALF_CONVERSIONS__ -U__CUDA_NO_BFLOAT16_CONVERSIONS__ -U__CUDA_NO_HALF2_OPERATORS__)

# What each library is made of; work: lines of "OBJECT<tab>COMMAND", those that are missing.
declare -A objects
work=$folder/work
: >"$work"
object() { # LIBRARY FLAGS_ARRAY SOURCE
  local -n flags=$2
  local to
  to=$folder/objects/$1-$(basename "$3").o
  objects[$1]+=" $to"
  [[ $to -nt $3 ]] || printf '%s\t%s\n' "$to" "${flags[*]} -c $3 -o $to.part" >>"$work"
}
for source in "$here/vllm_ops.cc" "$vllm/quantization/awq/gemm_kernels.cu" "$vllm/quantization/gptq/q_gemm.cu" \
  "$marlin"/{marlin,gptq_marlin_repack,awq_marlin_repack}.cu "$marlin"/sm80_kernel_*.cu; do
  object vllm stable "$source"
done
# wgmma is of 9.0a.
cutlass=$folder/cutlass/cutlass_library/source
wgmma=("${common[@]}" -arch=sm_90a -O3 -DNDEBUG -DTORCH_TARGET_VERSION=0x020B000000000000ULL -DUSE_CUDA
  -I "$vllm" -isystem "$cutlass/include" -isystem "$cutlass/tools/util/include")
for source in "$here/machete_ops.cc" "$machete/machete_pytorch.cu" "$machete"/generated/*.cu; do object machete wgmma "$source"; done
exllama=("${plain[@]}" -I "$model/exllamav2")
for source in "$model/exllamav2"/{ext_gptq.cpp,cuda/q_matrix.cu,cuda/q_gemm.cu}; do object exllamav2 exllama "$source"; done
awq=("${plain[@]}" -I "$model/awq")
for source in "$model/awq"/{torch_bind.cpp,gemm_fast_cuda_entry.cu,gemv_fast_cuda_entry.cu,quantization/gemv_cuda.cu,quantization/gemm_cuda_gen.cu}; do
  object awq awq "$source"
done
compile() {
  local to=${1%%$'\t'*} command=${1#*$'\t'}
  echo "compiling $(basename "$to" .o)" >&2
  $command >"$to.log" 2>&1 || { echo "gpu_kernels.sh: $(basename "$to" .o) doesn't compile: $(grep -m1 -i error "$to.log"), see $to.log" >&2; return 1; }
  mv "$to.part" "$to"
}
export -f compile
tr '\n' '\0' <"$work" | xargs -0 -r -n 1 -P "${JOBS:-2}" bash -c 'compile "$0"'

# Those of PyTorch and CUDA are in the process that loads them, wherever its packages are: no path is written down.
for name in vllm machete exllamav2 awq; do
  # shellcheck disable=SC2086
  g++ -shared -s -o "$folder/lib/$name.so" ${objects[$name]} -L "$torch/lib" -ltorch -ltorch_cpu -ltorch_cuda -lc10 -lc10_cuda \
    -L "$toolkit/lib" -l:libcublas.so.13 -l:libcudart.so.13
done
echo "$recipe" >"$folder/built"
echo "$folder/lib"
