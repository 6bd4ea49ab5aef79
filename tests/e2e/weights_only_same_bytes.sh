# A known family without calibration data: the bytes that the calibrated run gives for a solver that needs none.
. tests/e2e/lib.sh
quick recipes/rtn.yaml "$scratch/calibrated" --set evaluate=null
"$QUANTIZE" --recipe recipes/rtn.yaml --device cpu --quiet --set calibration=null --set evaluate.rows=2 --output "$scratch/alone"
cmp "$scratch/calibrated/model.safetensors" "$scratch/alone/model.safetensors" || fail "other weights"
cmp "$scratch/calibrated/config.json" "$scratch/alone/config.json" || fail "another config.json"
holds "$scratch/alone/report.json" "r['evaluation']['kl_mean'] > 0 and all(l['output_error'] is None for l in r['linears'])"
refuses 2 'transform awq works on activations' "$QUANTIZE" --recipe recipes/awq.yaml --device cpu --set calibration=null --output "$scratch/no"
