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
plan --set 'output.formats=[gptq]' --set "$(rule "$three")" >"$scratch/plan"
grep -q "warning .*GPTQModel (7.7) won't load.*gptq-v2" "$scratch/plan" && grep -q 'consumer   vLLM: does not read it' "$scratch/plan" ||
  fail "the plan is silent about who reads zero points of version 1: $(cat "$scratch/plan")"
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

# Version 1 has no number for a zero point of 0: with it among the formats no group has one, not even where all weights are positive.
copy_model "$scratch/positive"
"$PYTHON" - "$scratch/positive/model.safetensors" <<'PY'
import sys
from safetensors import safe_open
from safetensors.torch import save_file
with safe_open(sys.argv[1], "pt") as file:
    tensors = {name: file.get_tensor(name) for name in file.keys()}
tensors["model.layers.1.mlp.up_proj.weight"].abs_()
save_file(tensors, sys.argv[1], metadata={"format": "pt"})
PY
zeros() { quick "recipes/$2.yaml" "$scratch/$1" --model "$scratch/positive" --set evaluate=null --set "output.formats=[$3]"; }
for recipe in rtn gptq; do
  zeros $recipe-free $recipe gptq-v2
  zeros $recipe-above $recipe 'gptq, gptq-v2'
  "$PYTHON" - "$scratch/$recipe-free" "$scratch/$recipe-above" <<'PY' || fail "$recipe: zero points of both versions"
import sys
import torch
from safetensors import safe_open
def fields(folder):
    with safe_open(f"{folder}/model.safetensors", "pt") as file:
        words = torch.cat([file.get_tensor(name).flatten() for name in sorted(file.keys()) if name.endswith(".qzeros")])
    return torch.stack([words >> 4 * j & 15 for j in range(8)], -1)
free, above = sys.argv[1:]
first, second = fields(f"{above}/gptq"), fields(f"{above}/gptq-v2")
assert (fields(free) == 0).any(), "no group wants a zero point of 0: the test shows nothing"
assert second.min() == 1 and torch.equal(first + 1, second), (first.min(), second.min())
PY
  for version in gptq gptq-v2; do
    "$QUANTIZE" eval --model "$scratch/$recipe-above/$version" --text data/text/evaluation.txt --rows 2 --ctx 64 --device cpu --json >"$scratch/$version.json" 2>"$scratch/progress"
  done
  [[ $(value "$scratch/gptq.json" "r['perplexity']") == $(value "$scratch/gptq-v2.json" "r['perplexity']") ]] || fail "$recipe: the versions differ"
done

# The figures are what the files hold: zero points and an index of each input in GPTQ, which compressed-tensors has not for symmetric weights.
for format in compressed-tensors gptq awq; do
  "$QUANTIZE" inspect "$scratch/all/$format" --json >"$scratch/inspect.json"
  bits=$(value "$scratch/inspect.json" "r['schemes'][0]['bits_per_weight']")
  holds "$scratch/all/$format/report.json" "abs(r['totals']['bits_per_quantized_weight'] - $bits) < 1e-9"
  grep -qF "$(printf '%.3f bits for each' "$bits")" "$scratch/all/$format/README.md" || fail "$format: the card doesn't say $bits: $(grep 'bits for each' "$scratch/all/$format/README.md")"
done
