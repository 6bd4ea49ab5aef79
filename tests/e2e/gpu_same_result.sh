# On a GPU: the run works, and its result is as good as the CPU's on the same samples.
. tests/e2e/lib.sh
[[ -e /dev/nvidia0 ]] || skip "no NVIDIA device on this machine"
quick recipes/awq.yaml "$scratch/cpu"
quick recipes/awq.yaml "$scratch/cuda" --device cuda
kl() { value "$scratch/$1/report.json" "r['evaluation']['kl_mean']"; }
echo "mean KL: CPU $(kl cpu), CUDA $(kl cuda)"
"$PYTHON" -c "import sys; sys.exit(not abs($(kl cpu) - $(kl cuda)) < 0.05 * $(kl cpu))" || fail "CPU and CUDA results differ in quality"
