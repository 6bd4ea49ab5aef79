# A transform that moved no scale in the whole model is an error, and nothing is written.
. tests/e2e/lib.sh
refuses 2 "transforms[0] (smoothquant): moved no scale in the whole model" quick recipes/smoothquant.yaml "$scratch/out" \
  --set 'rules[0].targets=[down_proj]'
grep -qF "option mlp_mid is off" "$scratch/stderr" || fail "no reason: $(cat "$scratch/stderr")"
[[ ! -e $scratch/out ]] || fail "a run without folds wrote $scratch/out"
