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

# Weights that first move towards the unquantised model's outputs are nearer to it than plain GPTQ's.
"$QUANTIZE" --recipe recipes/gptq.yaml --output "$scratch/plain" --device cpu --quiet --set calibration.samples=32 --set rules[0].solver.gptq.match_reference=0
echo "mean KL without match_reference: $(kl plain)"
"$PYTHON" -c "import sys; sys.exit(not $(kl gptq) < 0.95 * $(kl plain))" || fail "match_reference gains nothing"
refuses 2 "match_reference looks at what quantised layers leave" "$QUANTIZE" --recipe recipes/gptq.yaml --output "$scratch/streams" --device cpu --quiet --dry-run \
  --set calibration.propagate=reference

rule() { echo "rules=[{targets: [linear], scheme: {type: int, bits: 3, group_size: 64, symmetric: false}, solver: {gptq: {$1}}}]"; }
refuses 2 "static_groups" "$QUANTIZE" --recipe recipes/gptq.yaml --output "$scratch/gidx" --device cpu --quiet --dry-run \
  --set "$(rule 'act_order: desc, static_groups: false')"
refuses 2 "needs static_groups: true" "$QUANTIZE" --recipe recipes/gptq.yaml --output "$scratch/offered" --device cpu --quiet --dry-run \
  --set "$(rule 'act_order: gar, static_groups: false, offered_range: true')"
# Grids chosen on the way, columns group by group: legal, and not the same codes.
quick recipes/gptq.yaml "$scratch/gar" --set "$(rule 'act_order: gar, static_groups: false')"
quick recipes/gptq.yaml "$scratch/static" --set "$(rule 'act_order: gar')"
cmp -s "$scratch/gar/model.safetensors" "$scratch/static/model.safetensors" && fail "static_groups changed nothing"
# Clips that nobody takes are not searched: a warning in the report, and no linear that says it was clipped.
quick recipes/gptq.yaml "$scratch/awq" --set 'transforms=[{awq: {}}]'
quick recipes/gptq.yaml "$scratch/unclipped" --set 'transforms=[{awq: {clip: false}}]'
quick recipes/gptq.yaml "$scratch/clipped" --set 'transforms=[{awq: {}}]' --set 'rules[0].solver.gptq.offered_range=true'
cmp "$scratch/awq/model.safetensors" "$scratch/unclipped/model.safetensors" || fail "a clip that is not taken changes the result"
cmp -s "$scratch/awq/model.safetensors" "$scratch/clipped/model.safetensors" && fail "offered_range changes nothing"
holds "$scratch/awq/report.json" "not any(l['clipped'] for l in r['linears']) and any('takes no offered ranges' in w for w in r['warnings'])"
holds "$scratch/clipped/report.json" "any(l['clipped'] for l in r['linears']) and not any('offered ranges' in w for w in r['warnings'])"
# Fewer tokens than channels and no damping: the steps of the ladder stand in the report.
quick recipes/gptq.yaml "$scratch/ladder" --set 'rules[0].solver.gptq.damping=0' --set calibration.samples=1 --set calibration.seq_len=32 --set evaluate=null
holds "$scratch/ladder/report.json" "any('with damping 0: damping raised to 0.001' in e for l in r['linears'] for e in l['events'])"
