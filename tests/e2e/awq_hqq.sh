# A transform before HQQ: AWQ's scales and clipped ranges, then zero points fitted from there; scales stay what they are.
. tests/e2e/lib.sh
scheme='rules[0].scheme={bits: 3, group_size: 64, symmetric: false}'
run() { quick recipes/awq.yaml "$scratch/$1" --set "$scheme" "${@:2}"; }
run awq_hqq --set 'rules[0].solver={hqq: {}}'
run awq_real --set 'output.formats=[hqq]' --set 'rules[0].solver={hqq: {}}' --set 'rules[0].scheme={bits: 3, group_size: 64, symmetric: false, zero_point: real}'
run awq
holds "$scratch/awq_hqq/report.json" "any(f['applied'] for f in r['folds']) and any(l['clipped'] for l in r['linears'])"
# A scale that is fitted anew ends 28 % above AWQ.
kl() { value "$scratch/$1/report.json" "r['evaluation']['kl_mean']"; }
echo "mean KL at 3 bits: AWQ $(kl awq), with HQQ $(kl awq_hqq), with real zero points $(kl awq_real)"
"$PYTHON" -c "import sys; sys.exit(not (0 < $(kl awq_hqq) < 1.02 * $(kl awq) and 0 < $(kl awq_real) < 1.15 * $(kl awq)))" || fail "HQQ spoils what AWQ found"
refuses 2 'axis 0: rows share scales' run no --set 'rules[0].solver={hqq: {}}' --set 'output.formats=[hqq]' --set 'rules[0].scheme={bits: 4, group_size: 64, symmetric: false, zero_point: real, axis: 0}'
