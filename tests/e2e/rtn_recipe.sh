# The shipped RTN recipe runs, and leaves a complete artefact and report.
. tests/e2e/lib.sh
quick recipes/rtn.yaml "$scratch/out"
for file in model.safetensors config.json tokenizer.json tokenizer_config.json generation_config.json report.json report.md; do
  [[ -s $scratch/out/$file ]] || fail "$file is missing"
done
holds "$scratch/out/config.json" "r['quantization_config']['quant_method'] == 'compressed-tensors'"
holds "$scratch/out/config.json" "r['quantization_config']['ignore'] == ['lm_head']"
holds "$scratch/out/report.json" "len(r['linears']) == 42"
holds "$scratch/out/report.json" "all(0 < l['output_error'] < 0.05 and 0 < l['weight_error'] < 0.05 for l in r['linears'])"
