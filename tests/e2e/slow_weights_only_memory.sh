# The peak of a run without calibration data is that of its largest weight, however many blocks there are.
. tests/e2e/lib.sh
peak() {
  "$PYTHON" tests/tools/make_unknown_model.py "$scratch/model$1" --layers "$1" --width 1024
  "$QUANTIZE" --recipe recipes/hqq.yaml --model "$scratch/model$1" --device cpu --threads 1 --quiet --output "$scratch/out$1"
  value "$scratch/out$1/report.json" "r['memory']['peak']['ram']"
  holds "$scratch/out$1/report.json" "r['memory']['peak']['ram'] <= r['memory']['planned']['ram']"
}
few=$(peak 2) many=$(peak 24)
echo "peak with 2 blocks $few, with 24 blocks $many"
((many < few + 12000000)) || fail "22 more blocks take $((many - few)) bytes more"
