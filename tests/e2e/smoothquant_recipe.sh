# The shipped SmoothQuant recipe: INT8 weights and activations, simulated in the evaluation as engines compute them.
. tests/e2e/lib.sh
"$QUANTIZE" list | grep -A1 -- smoothquant | grep -q "alpha: 0.5" || fail "list lacks smoothquant's alpha"
quick recipes/smoothquant.yaml "$scratch/dynamic" --dry-run >"$scratch/plan"
grep -q "42 linears, int8 sym channel, input int8 sym dynamic per token" "$scratch/plan" || fail "the plan lacks activations: $(cat "$scratch/plan")"
grep -q "^transform  smoothquant" "$scratch/plan" || fail "the plan lacks the transform"

quick recipes/smoothquant.yaml "$scratch/dynamic"
holds "$scratch/dynamic/report.json" "0 < r['evaluation']['kl_mean'] < 0.003"
holds "$scratch/dynamic/report.json" "sum(f['applied'] for f in r['folds']) >= 10"
holds "$scratch/dynamic/config.json" "r['quantization_config']['format'] == 'int-quantized'"
# eval reads the artefact and simulates its activations: what the run's own evaluation said.
"$QUANTIZE" eval --model "$scratch/dynamic" --reference "$MODEL" --text data/text/evaluation.txt --ctx 512 --rows 4 --device cpu --json >"$scratch/eval.json"
run=$(value "$scratch/dynamic/report.json" "r['evaluation']['kl_mean']"); again=$(value "$scratch/eval.json" "r['kl_mean']")
"$PYTHON" -c "import sys; sys.exit(not abs($run - $again) <= 1e-6 * $again)" || fail "report says KL $run, eval says $again"
"$QUANTIZE" inspect "$scratch/dynamic" | grep -q "scheme: int8 sym channel, input int8 sym dynamic per token: 42 linears" || fail "inspect lacks the activations"

# Weights alone lose less; static grids lose more than each token's own.
quick recipes/smoothquant.yaml "$scratch/weights" --set 'rules[0].activations=null'
for observer in minmax percentile mse kl; do
  quick recipes/smoothquant.yaml "$scratch/$observer" --set "rules[0].activations={dynamic: false, observer: $observer}"
  grep -q "int8 sym static per tensor" "$scratch/$observer/report.md" || fail "the report lacks $observer's grid"
done
# Averaged over time: another range than the extremes of the same samples, where there is more than one chunk of them.
for observer in minmax ema; do
  quick recipes/smoothquant.yaml "$scratch/$observer-40" --set calibration.samples=40 --set "rules[0].activations={dynamic: false, observer: $observer}"
done
! cmp -s "$scratch/minmax-40/model.safetensors" "$scratch/ema-40/model.safetensors" || fail "ema makes no difference"
holds "$scratch/ema-40/report.json" "any('observer ema averages over steps of 2048 tokens' in w for w in r['warnings'])"
holds "$scratch/minmax-40/report.json" "not any('observer' in w for w in r['warnings'])"
quick recipes/smoothquant.yaml "$scratch/ema-fast" --set calibration.samples=40 --set "rules[0].activations={dynamic: false, observer: ema, averaging_constant: 0.9}"
! cmp -s "$scratch/ema-40/model.safetensors" "$scratch/ema-fast/model.safetensors" || fail "averaging_constant makes no difference"
holds "$scratch/ema-fast/report.json" "not any('observer' in w for w in r['warnings'])"
holds "$scratch/ema-fast/manifest.json" "r['recipe']['rules'][0]['activations']['averaging_constant'] == 0.9"
quick recipes/smoothquant.yaml "$scratch/asym" --set 'rules[0].activations={dynamic: false, symmetric: false}'
for observer in mse kl; do
  quick recipes/smoothquant.yaml "$scratch/asym-$observer" --set "rules[0].activations={dynamic: false, symmetric: false, observer: $observer}"
done
kl() { value "$scratch/$1/report.json" "r['evaluation']['kl_mean']"; }
echo "mean KL: weights $(kl weights), dynamic $(kl dynamic), static: minmax $(kl minmax), percentile $(kl percentile), mse $(kl mse), kl $(kl kl), asymmetric $(kl asym), mse $(kl asym-mse), kl $(kl asym-kl)"
"$PYTHON" -c "import sys; sys.exit(not $(kl weights) < $(kl dynamic) < min($(kl minmax), $(kl asym), $(kl asym-mse)) < 0.1)" || fail "activations don't count, or static grids are broken"
"$PYTHON" -c "import sys; sys.exit(not len({$(kl minmax), $(kl percentile), $(kl mse), $(kl kl), $(kl asym), $(kl asym-mse), $(kl asym-kl)}) == 7)" || fail "observers make no difference"

# The same bytes twice; and refusals by their key.
quick recipes/smoothquant.yaml "$scratch/again"
cmp "$scratch/dynamic/model.safetensors" "$scratch/again/model.safetensors"
refuses 2 "rules[0].activations.per" quick recipes/smoothquant.yaml "$scratch/no" --set 'rules[0].activations.per=row'
refuses 2 "static activations per token" quick recipes/smoothquant.yaml "$scratch/no" --set 'rules[0].activations.dynamic=false'
refuses 2 "with bits: 8, group_size: -1" quick recipes/smoothquant.yaml "$scratch/no" --set 'rules[0].scheme.bits=5'
refuses 2 "clips a tensor" quick recipes/smoothquant.yaml "$scratch/no" --set 'rules[0].activations={type: nvfp4, observer: kl}'
