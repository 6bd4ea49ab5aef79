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
