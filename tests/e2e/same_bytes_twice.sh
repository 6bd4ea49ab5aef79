# The same recipe, model, data and build give the same bytes.
. tests/e2e/lib.sh
quick recipes/awq.yaml "$scratch/a"
quick recipes/awq.yaml "$scratch/b"
for file in model.safetensors config.json; do
  cmp "$scratch/a/$file" "$scratch/b/$file" || fail "$file differs between two runs"
done
