# The shipped AWQ recipe beats RTN on the embedded model: KL to FP16 and the layers' output errors.
. tests/e2e/lib.sh
for name in rtn awq; do
  "$QUANTIZE" --recipe recipes/$name.yaml --output "$scratch/$name" --device cpu --quiet --set calibration.samples=32
done
kl() { value "$scratch/$1/report.json" "r['evaluation']['kl_mean']"; }
echo "mean KL: RTN $(kl rtn), AWQ $(kl awq)"
"$PYTHON" -c "import sys; sys.exit(not 0 < $(kl awq) < 0.8 * $(kl rtn))" || fail "AWQ's KL is not clearly below RTN's"
holds "$scratch/awq/report.json" "any(f['applied'] for f in r['folds'])"
