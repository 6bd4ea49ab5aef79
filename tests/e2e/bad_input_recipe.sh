# Recipe errors name file, line and column; --set errors name the flag.
. tests/e2e/lib.sh
cat >"$scratch/r.yaml" <<'Y'
model: data/models/lathe-tiny
rules:
  - {targets: [linear], scheme: {type: int, bitz: 4}, solver: {rtn: {}}}
Y
refuses 2 "r.yaml:3:" "$QUANTIZE" --recipe "$scratch/r.yaml" --output "$scratch/out"
refuses 2 "did you mean 'bits'" "$QUANTIZE" --recipe "$scratch/r.yaml" --output "$scratch/out"
refuses 2 "group_size" quick recipes/rtn.yaml "$scratch/out" --set 'rules[0].scheme.group_size=many'
refuses 2 "96" quick recipes/rtn.yaml "$scratch/out" --set 'rules[0].scheme.group_size=96'
refuses 2 "matches no linear" quick recipes/rtn.yaml "$scratch/out" --set 'rules[0].targets=["/nothing_like_this/"]'
refuses 2 "q_proj" quick recipes/rtn.yaml "$scratch/out" --set 'rules[0].targets=[q_proj]'
refuses 2 "nowhere.yaml" "$QUANTIZE" --recipe "$scratch/nowhere.yaml"
# Words that would do nothing.
refuses 2 "ignore: '/nothing_like_this/' matches no linear" quick recipes/rtn.yaml "$scratch/out" --set 'ignore=[lm_head, "/nothing_like_this/"]'
refuses 2 "'v_proj' decides about no linear" quick recipes/gptq.yaml "$scratch/out" --set \
  'rules=[{targets: [linear], solver: {gptq: {}}}, {targets: [v_proj], scheme: {bits: 8}, solver: {rtn: {}}}]'
refuses 2 "only clip true reads it" quick recipes/awq.yaml "$scratch/out" --set 'transforms=[{awq: {clip: false, clip_qk: true}}]'
refuses 2 "no transform of the recipe offers ranges" quick recipes/gptq.yaml "$scratch/out" --set 'rules[0].solver.gptq.offered_range=true'
refuses 2 "expected each transform once" quick recipes/awq.yaml "$scratch/out" --set 'transforms=[{awq: {}}, {awq: {}}]'
refuses 2 "range kl needs groups of at least 512" quick recipes/gptq.yaml "$scratch/out" --dry-run --set 'rules[0].solver={gptq: {range: kl}}'
# Ranges weighted by activations need activations.
refuses 2 "solver hqq works on activations" "$QUANTIZE" --recipe recipes/hqq.yaml --output "$scratch/out" --device cpu --quiet --set 'rules[0].solver.hqq.range=weighted'
