# The shipped GPTQ recipe beats RTN and AWQ by far on the embedded model, at the same size; act-order's groups are refused early.
. tests/e2e/lib.sh
for name in rtn gptq awq-gptq; do
  "$QUANTIZE" --recipe recipes/$name.yaml --output "$scratch/$name" --device cpu --quiet --set calibration.samples=32
done
kl() { value "$scratch/$1/report.json" "r['evaluation']['kl_mean']"; }
echo "mean KL: RTN $(kl rtn), GPTQ $(kl gptq), AWQ + GPTQ $(kl awq-gptq)"
"$PYTHON" -c "import sys; sys.exit(not 0 < $(kl gptq) < 0.5 * $(kl rtn))" || fail "GPTQ's KL is not far below RTN's"
"$PYTHON" -c "import sys; sys.exit(not 0 < $(kl awq-gptq) < 0.5 * $(kl rtn))" || fail "AWQ + GPTQ's KL is not far below RTN's"
holds "$scratch/awq-gptq/report.json" "any(f['applied'] for f in r['folds'])"
[[ $(stat -c %s "$scratch/rtn/model.safetensors") == $(stat -c %s "$scratch/gptq/model.safetensors") ]] || fail "sizes differ"

rule() { echo "rules=[{targets: [linear], scheme: {type: int, bits: 3, group_size: 64, symmetric: false}, solver: {gptq: {$1}}}]"; }
refuses 2 "static_groups" "$QUANTIZE" --recipe recipes/gptq.yaml --output "$scratch/gidx" --device cpu --quiet --dry-run \
  --set "$(rule 'act_order: desc, static_groups: false')"
refuses 2 "needs static_groups: true" "$QUANTIZE" --recipe recipes/gptq.yaml --output "$scratch/offered" --device cpu --quiet --dry-run \
  --set "$(rule 'act_order: gar, static_groups: false, offered_range: true')"
# Grids chosen on the way, columns group by group: legal, and not the same codes.
quick recipes/gptq.yaml "$scratch/gar" --set "$(rule 'act_order: gar, static_groups: false')"
quick recipes/gptq.yaml "$scratch/static" --set "$(rule 'act_order: gar')"
cmp -s "$scratch/gar/model.safetensors" "$scratch/static/model.safetensors" && fail "static_groups changed nothing"
# One and two threads give the same bytes.
OMP_NUM_THREADS=2 quick recipes/gptq.yaml "$scratch/two" --threads 2 --set "$(rule 'act_order: gar')"
cmp "$scratch/static/model.safetensors" "$scratch/two/model.safetensors" || fail "threads change the result"
