# A budget on a mixture of experts: gradients don't see tokens that go to other experts, so that an estimate far from what was measured is
# said; measured KL predicts what the mixture then loses.
. tests/e2e/lib.sh
"$PYTHON" -c 'import transformers' 2>/dev/null || skip "needs transformers to make the model"
vocabulary=$(value "$MODEL/config.json" "r['vocab_size']")
checkpoint "$scratch/model" mixtral "{\"vocab_size\": $vocabulary, \"num_local_experts\": 5, \"num_hidden_layers\": 3}"
int() { echo "{scheme: {bits: $1, group_size: 16, symmetric: true}, solver: {gptq: {}}}"; }
mixture() {
  "$QUANTIZE" --recipe recipes/mixed-4.25bpw.yaml --model "$scratch/model" --output "$scratch/$1" --device cpu --quiet --set calibration.samples=12 \
    --set calibration.seq_len=128 --set sensitivity.held_out=4 --set sensitivity.loss="$1" --set "candidates=[$(int 4), $(int 8)]" \
    --set 'budget={bits_per_weight: 6}' --set evaluate.rows=8 --set evaluate.ctx=128
  holds "$scratch/$1/budget.json" "4.5 < r['chosen']['bits_per_weight'] <= 6"
  # All experts of the model by one scheme, as consumers read them.
  holds "$scratch/$1/report.json" "len({l['scheme'] for l in r['linears'] if 'experts' in l['name']}) == 1"
}
mixture fisher
holds "$scratch/fisher/report.json" "any('is not what was measured' in w and 'sensitivity.loss=kl' in w for w in r['warnings'])"
mixture kl
holds "$scratch/kl/report.json" "not any('is not what was measured' in w for w in r['warnings'])"
found=$(value "$scratch/kl/report.json" "r['evaluation']['kl_mean']")
holds "$scratch/kl/budget.json" "0.5 < r['chosen']['kl'] / $found < 2"
# A dense model's estimate is what is measured.
quick recipes/mixed-4.25bpw.yaml "$scratch/dense" --set sensitivity.held_out=2
holds "$scratch/dense/report.json" "not any('is not what was measured' in w for w in r['warnings'])"
