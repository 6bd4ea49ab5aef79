# An existing output is refused before any work, and kept; --overwrite replaces it, but only what Lathe wrote.
. tests/e2e/lib.sh
mkdir "$scratch/out"; echo precious >"$scratch/out/file"
refuses 2 "already exists" quick recipes/rtn.yaml "$scratch/out"
refuses 2 "only what Lathe wrote" quick recipes/rtn.yaml "$scratch/out" --overwrite
[[ $(cat "$scratch/out/file") == precious ]] || fail "a folder that isn't ours was touched"
quick recipes/rtn.yaml "$scratch/ours"; touch "$scratch/ours/old"
quick recipes/rtn.yaml "$scratch/ours" --overwrite
[[ ! -e $scratch/ours/old && -s $scratch/ours/config.json ]] || fail "--overwrite didn't replace the old output"
both=(--set 'output.formats=[compressed-tensors, awq, marlin]')
quick recipes/rtn.yaml "$scratch/both" "${symmetric[@]}" "${both[@]}"
quick recipes/rtn.yaml "$scratch/both" "${symmetric[@]}" "${both[@]}" --overwrite
echo precious >"$scratch/both/file"
refuses 2 "only what Lathe wrote" quick recipes/rtn.yaml "$scratch/both" "${symmetric[@]}" "${both[@]}" --overwrite
copy_model "$scratch/model"; touch "$scratch/model/report.json"
refuses 2 "is the model's own folder" quick recipes/rtn.yaml "$scratch/model" --model "$scratch/model" --overwrite
[[ -s $scratch/model/model.safetensors ]] || fail "the model was touched"
