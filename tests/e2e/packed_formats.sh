# One calibrated run in every layout of packed integers: each folder is checked against what was solved, is read as any model
# is, and holds the same bytes as a run into that format alone. Who can't load what is said before anything is done.
. tests/e2e/lib.sh
all='output.formats=[compressed-tensors, gptq, gptq-v2, awq, awq-gemv]'
quick recipes/gptq.yaml "$scratch/all" "${symmetric[@]}" --set "$all"
for format in compressed-tensors gptq gptq-v2 awq awq-gemv; do
  "$QUANTIZE" eval --model "$scratch/all/$format" --text data/text/evaluation.txt --rows 4 --device cpu --json >"$scratch/eval.json" 2>"$scratch/progress"
  value "$scratch/eval.json" "r['perplexity']" >>"$scratch/perplexities"
  "$QUANTIZE" inspect "$scratch/all/$format" --json >"$scratch/inspect.json"
  holds "$scratch/inspect.json" "[s['scheme'] for s in r['schemes']] == ['int4 sym g128']"
done
[[ $(sort -u "$scratch/perplexities" | wc -l) == 1 ]] || fail "formats differ: $(cat "$scratch/perplexities")"
quick recipes/gptq.yaml "$scratch/one" "${symmetric[@]}" --set 'output.formats=[gptq]'
cmp "$scratch/one/model.safetensors" "$scratch/all/gptq/model.safetensors" || fail "a folder of its own has other bytes"

# Configurations: every consumer finds the file that it looks for.
for format in gptq gptq-v2; do
  config=$scratch/all/$format/config.json
  holds "$config" "r['quantization_config'] == __import__('json').load(open('$scratch/all/$format/quantize_config.json'))"
  holds "$config" "(lambda c: c['checkpoint_format'] == c['format'] == '${format/-/_}')(r['quantization_config'])"
  holds "$config" "(lambda c: (c['bits'], c['group_size'], c['sym'], c['desc_act']) == (4, 128, True, False))(r['quantization_config'])"
done
holds "$scratch/all/awq/quant_config.json" "r['w_bit'] == 4 and r['q_group_size'] == 128 and r['zero_point'] and r['version'] == 'gemm'"
holds "$scratch/all/awq-gemv/config.json" "r['quantization_config']['version'] == 'gemv'"
# inspect says of a folder what the plan said: GEMV's order is no server's of those that read AWQ.
"$QUANTIZE" inspect "$scratch/all/awq" | grep -q "vLLM: .*ok for TP" || fail "inspect says nothing of vLLM for awq"
! "$QUANTIZE" inspect "$scratch/all/awq-gemv" | grep -q "vLLM: .*ok for TP" || fail "inspect says that vLLM reads awq-gemv"
grep -q GPTQModel "$scratch/all/gptq/report.md" || fail "report.md names another loader than the format's"

# Groups in an order of their own, 3 bits, zero points: GPTQModel's and nobody else's.
rule() { echo "rules=[{targets: [linear], scheme: {type: int, bits: $1}, solver: {gptq: {act_order: desc, static_groups: false}}}]"; }
three='3, group_size: 64, symmetric: false'
quick recipes/gptq.yaml "$scratch/order" --set 'output.formats=[gptq-v2]' --set "$(rule "$three")"
holds "$scratch/order/config.json" "r['quantization_config']['desc_act'] is True and r['quantization_config']['sym'] is False"
holds "$scratch/order/report.json" "any('vLLM' in w for w in r['warnings'])"
"$QUANTIZE" eval --model "$scratch/order" --text data/text/evaluation.txt --rows 4 --ctx 512 --device cpu --json >"$scratch/eval.json" 2>"$scratch/progress"
holds "$scratch/eval.json" "abs(r['perplexity'] / $(value "$scratch/order/report.json" "r['evaluation']['perplexity_after']") - 1) < 1e-6"
quick recipes/gptq.yaml "$scratch/desc" --set 'output.formats=[gptq]' --set evaluate=null --set "$(rule '4, group_size: 64, symmetric: true')"
"$QUANTIZE" inspect "$scratch/desc" | grep "vLLM:" >"$scratch/said" || fail "inspect says nothing of vLLM"
! grep -q "ok for TP" "$scratch/said" || fail "inspect says that vLLM reads desc_act with groups: $(cat "$scratch/said")"

# What a format can't hold is refused, and what not everybody reads is said, before anything is read but headers.
plan() { "$QUANTIZE" --recipe recipes/gptq.yaml --device cpu --dry-run --output "$scratch/no" "$@"; }
refuses 2 'format gptq: asymmetric weights can' plan --set 'output.formats=[gptq]' --set "$(rule "$three")"
refuses 2 'use output format gptq-v2' plan --set 'output.formats=[gptq]' --set "$(rule "$three")"
refuses 2 'format awq: bits 3' plan --set 'output.formats=[awq]' --set "$(rule "$three")"
refuses 2 'AWQ has no group indices' plan --set 'output.formats=[awq]' --set "$(rule '4, group_size: 64, symmetric: true')"
refuses 2 'one scheme for all linears' plan --set 'output.formats=[awq]' \
  --set 'rules=[{targets: [mlp], scheme: {bits: 4, group_size: 64}, solver: {rtn: {}}}, {targets: [attention], scheme: {bits: 4, group_size: 128}, solver: {rtn: {}}}]'
refuses 2 'bits 6 can' plan "${symmetric[@]}" --set 'output.formats=[gptq]' --set 'rules[0].scheme.bits=6'
plan --set 'output.formats=[gptq]' --set "$(rule '4, group_size: 64, symmetric: true')" >"$scratch/plan"
grep -q 'warning .*desc_act.*static_groups' "$scratch/plan" || fail "the plan is silent about desc_act: $(cat "$scratch/plan")"
plan "${symmetric[@]}" --set 'output.formats=[gptq]' --set 'rules[0].scheme.bits=3' >"$scratch/plan"
grep -q 'warning .*vLLM.*4 and 8 bits' "$scratch/plan" || fail "the plan is silent about vLLM"

# Two schemes and linears in floating point are rules of `dynamic`, and read back as such.
quick recipes/rtn.yaml "$scratch/mixed" "${symmetric[@]}" --set 'output.formats=[gptq]' --set evaluate=null --set "ignore=[lm_head, '/layers\.5\.mlp/']" \
  --set 'rules=[{targets: [mlp], scheme: {bits: 4, group_size: 64}, solver: {rtn: {}}}, {targets: [attention], scheme: {bits: 8, group_size: -1}, solver: {rtn: {}}}]'
holds "$scratch/mixed/config.json" "sorted(k[:2] for k in r['quantization_config']['dynamic']) == ['+:'] * 5 + ['-:']"
"$QUANTIZE" inspect "$scratch/mixed" --json >"$scratch/inspect.json"
holds "$scratch/inspect.json" "sorted((s['scheme'], s['linears']) for s in r['schemes']) == [('int4 sym g64', 15), ('int8 sym channel', 24)]"
