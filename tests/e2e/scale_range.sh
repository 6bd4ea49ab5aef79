# Weights below and beyond what scales in FP16 hold: said or refused, with the linear's name and what helps; and it does help.
. tests/e2e/lib.sh
"$PYTHON" -c 'import torch, safetensors' 2>/dev/null || skip "needs torch and safetensors in Python"
inject() { "$PYTHON" tests/tools/inject_outliers.py "$MODEL" "$scratch/$1" --channels 0 --up-exponent "$2"; }
inject small -20
inject large 24

for recipe in rtn gptq; do
  status=0
  quick recipes/$recipe.yaml "$scratch/$recipe" --model "$scratch/small" 2>"$scratch/stderr" || status=$?
  ((status == 3)) || fail "a linear that lost all it held: exit code $status ($(head -c 400 "$scratch/stderr"))"
  [[ ! -e $scratch/$recipe ]] || fail "an artefact that was rejected stands in the place of a good one"
  report=$scratch/$recipe.rejected/report.json
  holds "$report" "any(f['check'] == 'flattened' and 'layers.0.mlp.up_proj' in f['name'] for f in r['verification']['failed'])"
  holds "$report" "any('lost more than half' in w and 'up_proj' in w for w in r['warnings'])"
  holds "$report" "any('too small for scales in F16' in w for w in r['warnings'])"
  quick recipes/$recipe.yaml "$scratch/$recipe-bf16" --model "$scratch/small" --set output.scale_dtype=BF16
  holds "$scratch/$recipe-bf16/report.json" "not any('lost' in w or 'too small' in w for w in r['warnings'])"
  holds "$scratch/$recipe-bf16/report.json" "r['evaluation']['kl_mean'] < 0.1"
done

# GGUF's blocks, which have FP16 scales, too; up to 2^16 times smaller, for down_proj is made as much larger.
inject tiny -16
status=0
quick recipes/gguf.yaml "$scratch/gguf" --model "$scratch/tiny" 2>"$scratch/stderr" || status=$?
((status == 3)) || fail "a GGUF tensor that lost all it held: exit code $status ($(head -c 400 "$scratch/stderr"))"
report=$scratch/gguf.rejected/report.json
holds "$report" "['6 of 42 linears lost more than half' in w and 'up_proj' in w and 'gguf_tensor_types' in w for w in r['warnings']].count(True) == 1"
holds "$report" "not any('too small for scales' in w or 'finite' in w for w in r['warnings'])"
quick recipes/gguf.yaml "$scratch/gguf-bf16" --model "$scratch/tiny" --set 'output.gguf_tensor_types=[{tensors: /ffn_up/, type: BF16}]'
holds "$scratch/gguf-bf16/report.json" "not any('lost' in w for w in r['warnings']) and r['evaluation']['kl_mean'] < 0.1"

for recipe in rtn awq gptq awq-gptq; do
  refuses 2 "layers.0.mlp.up_proj" "$QUANTIZE" --recipe recipes/$recipe.yaml --model "$scratch/large" --output "$scratch/refused" --quiet \
    --device cpu --set calibration.samples=2 --set calibration.seq_len=64
done
quick recipes/awq.yaml "$scratch/awq-bf16" --model "$scratch/large" --set output.scale_dtype=BF16
holds "$scratch/awq-bf16/report.json" "r['evaluation']['kl_mean'] < 0.1"
