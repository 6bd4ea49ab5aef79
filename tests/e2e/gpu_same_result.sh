# On a GPU: the run works, and its result is as good as the CPU's on the same samples, in FP32 and in the model's own dtype.
. tests/e2e/lib.sh
[[ -e /dev/nvidia0 ]] || skip "no NVIDIA device on this machine"
quick recipes/awq.yaml "$scratch/cpu"
DEVICE=cuda quick recipes/awq.yaml "$scratch/f32" --compute-dtype f32
DEVICE=cuda quick recipes/awq.yaml "$scratch/auto"
kl() { value "$scratch/$1/report.json" "r['evaluation']['kl_mean']"; }
echo "mean KL: CPU $(kl cpu), CUDA in FP32 $(kl f32), in the model's dtype $(kl auto)"
near() { "$PYTHON" -c "import sys; sys.exit(not abs($(kl cpu) - $(kl "$1")) < $2 * $(kl cpu))" || fail "the result on CUDA ($1) differs in quality"; }
near f32 0.05
near auto 0.10
quick recipes/rtn.yaml "$scratch/rtn-cpu"
DEVICE=cuda quick recipes/rtn.yaml "$scratch/rtn-cuda"
cmp "$scratch/rtn-cpu/model.safetensors" "$scratch/rtn-cuda/model.safetensors" || fail "rounding to nearest gives other bytes on CUDA"
