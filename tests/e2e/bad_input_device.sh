# Devices that don't exist.
. tests/e2e/lib.sh
refuses 2 "tpu" "$QUANTIZE" --recipe recipes/rtn.yaml --output "$scratch/out" --device tpu
if [[ -e /dev/nvidia0 ]]; then skip "this machine has a GPU"; fi
refuses 2 "cuda" "$QUANTIZE" --recipe recipes/rtn.yaml --output "$scratch/out" --device cuda
refuses 2 "cuda:1" "$QUANTIZE" --recipe recipes/rtn.yaml --output "$scratch/out" --device cuda:1
