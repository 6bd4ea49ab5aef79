# `eval` reads a floating-point folder and our own artefact; a model against itself has no divergence.
. tests/e2e/lib.sh
quick recipes/awq.yaml "$scratch/out"
"$QUANTIZE" eval --model "$MODEL" --reference "$MODEL" --text data/text/evaluation.txt --ctx 512 --rows 4 --device cpu --json >"$scratch/self.json"
holds "$scratch/self.json" "r['kl_mean'] == 0 and r['same_top'] == 1"
"$QUANTIZE" eval --model "$scratch/out" --reference "$MODEL" --text data/text/evaluation.txt --ctx 512 --rows 4 --device cpu --json >"$scratch/eval.json"
holds "$scratch/eval.json" "0 < r['kl_mean'] < 0.1 and r['perplexity'] > 1"
# The run's own report measured the same thing on the same rows.
report=$(value "$scratch/out/report.json" "r['evaluation']['kl_mean']"); again=$(value "$scratch/eval.json" "r['kl_mean']")
"$PYTHON" -c "import sys; sys.exit(not abs($report - $again) <= 1e-6 * $again)" || fail "report says KL $report, eval says $again"
"$QUANTIZE" eval --model "$MODEL" --text data/text/evaluation.txt --ctx 1100 --rows 1 --device cpu >"$scratch/long" 2>&1
grep -q "warning: --ctx of 1100 tokens is longer than the model's max_position_embeddings, 1024" "$scratch/long" || fail "$(cat "$scratch/long")"
