# --compute-dtype: the forward pass in BF16 gives a result as good as FP32's, and says so; an unknown word is refused.
. tests/e2e/lib.sh
quick recipes/awq.yaml "$scratch/f32"
quick recipes/awq.yaml "$scratch/bf16" --compute-dtype bf16
for dtype in f32 bf16; do holds "$scratch/$dtype/report.json" "r['environment']['compute_dtype'] == '${dtype^^}'"; done
kl() { value "$scratch/$1/report.json" "r['evaluation']['kl_mean']"; }
echo "mean KL: FP32 $(kl f32), BF16 $(kl bf16)"
"$PYTHON" -c "import sys; sys.exit(not abs($(kl f32) - $(kl bf16)) < 0.1 * $(kl f32))" || fail "BF16 and FP32 results differ in quality"
cmp -s "$scratch/f32/model.safetensors" "$scratch/bf16/model.safetensors" && fail "BF16 was not used: the same bytes as FP32's"
refuses 2 "compute dtype 'half': expected auto, f32, bf16 or f16" "$QUANTIZE" --recipe recipes/awq.yaml --dry-run --compute-dtype half
"$QUANTIZE" eval --model "$MODEL" --text data/text/evaluation.txt --ctx 256 --rows 4 --device cpu --json >"$scratch/f32.json"
"$QUANTIZE" eval --model "$MODEL" --text data/text/evaluation.txt --ctx 256 --rows 4 --device cpu --json --compute-dtype bf16 >"$scratch/bf16.json"
perplexity() { value "$scratch/$1.json" "r['perplexity']"; }
"$PYTHON" -c "import sys; a, b = $(perplexity f32), $(perplexity bf16); sys.exit(not 0 < abs(a - b) < 0.01 * a)" ||
  fail "perplexity: FP32 $(perplexity f32), BF16 $(perplexity bf16)"
