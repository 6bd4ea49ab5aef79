# (q - z) * s with an integer z is the hqq library's arithmetic, too: integer artefacts become hqq's and come back, byte for byte
# what a run into either format writes; zero points that were fitted as real numbers stay there.
. tests/e2e/lib.sh
convert() { "$QUANTIZE" convert --model "$1" --to "$2" --output "$scratch/converted" --quiet --overwrite; }
same() {
  for file in model.safetensors config.json; do cmp "$1/$file" "$scratch/converted/$file" || fail "$file of $1 differs from a run's"; done
}
both_ways() {  # RUN FORMAT...
  local run=$1 format; shift
  for format in "$@"; do
    convert "$run/$format" hqq && same "$run/hqq"
    convert "$run/hqq" "$format" && same "$run/$format"
  done
}
rtn() { quick recipes/rtn.yaml "$1" --set evaluate=null "${@:2}"; }
rtn "$scratch/sym" "${symmetric[@]}" --set 'output.formats=[compressed-tensors, gptq, awq, hqq, marlin]'
both_ways "$scratch/sym" compressed-tensors gptq awq
rtn "$scratch/asym" --set 'output.formats=[compressed-tensors, gptq-v2, hqq]' --set 'rules[0].scheme={bits: 3, group_size: 64, symmetric: false}'
both_ways "$scratch/asym" compressed-tensors gptq-v2
convert "$scratch/asym/hqq" hqq && same "$scratch/asym/hqq"
# Several schemes, and groups that are whole rows, which hqq's files tell by their length alone.
rtn "$scratch/mixed" --set 'output.formats=[compressed-tensors, hqq]' --set 'rules=[{targets: [mlp], scheme: {bits: 3, group_size: 64}, solver: {rtn: {}}},
  {targets: [attention], scheme: {bits: 8, group_size: -1, symmetric: false}, solver: {rtn: {}}}]'
both_ways "$scratch/mixed" compressed-tensors
# GGUF's blocks and kernels' layouts, as from the other formats.
for from in hqq gptq; do
  mkdir "$scratch/$from" && cp -r "$scratch/sym/$from" "$scratch/$from/model"
  convert "$scratch/$from/model" gguf:Q4_0 && mv "$scratch"/converted/*.gguf "$scratch/$from.gguf"
done
cmp "$scratch/hqq.gguf" "$scratch/gptq.gguf" || fail "blocks from hqq aren't those from gptq"
convert "$scratch/sym/hqq" marlin
diff -r "$scratch/sym/layouts/marlin" "$scratch/converted" || fail "marlin from hqq differs from the run's"

# AWQ's recipe into hqq, in one run and by converting: the same numbers are scored.
quick recipes/awq.yaml "$scratch/awq" --set 'output.formats=[awq, hqq]'
convert "$scratch/awq/awq" hqq && same "$scratch/awq/hqq"
score() { "$QUANTIZE" eval --model "$1" --text data/text/evaluation.txt --rows 2 --ctx 64 --device cpu --json >"$scratch/score" && value "$scratch/score" "r['perplexity']"; }
[[ $(score "$scratch/awq/awq") == "$(score "$scratch/awq/hqq")" ]] || fail "hqq computes something else than awq"

# What can't be carried over says why, and leaves nothing.
no() { refuses 2 "$1" "$QUANTIZE" convert --model "$2" --to "$3" --output "$scratch/no"; }
"$QUANTIZE" --recipe recipes/hqq.yaml --device cpu --quiet --output "$scratch/real" --set evaluate=null
convert "$scratch/real" hqq && same "$scratch/real"
for to in compressed-tensors gptq-v2 gguf:Q4_1; do
  no ": expected an integer from 0 to 15, which format $to could hold; quantise the model anew" "$scratch/real" $to
done
no "which layout marlin could hold" "$scratch/real" marlin
"$PYTHON" - "$scratch/sym/hqq/model.safetensors" <<'PY'
import sys
from safetensors.torch import load_file, save_file
tensors = load_file(sys.argv[1])
tensors["model.layers.3.mlp.up_proj.zero"][9 * 2 + 1] = 7.5  # two groups a row
save_file(tensors, sys.argv[1], metadata={"format": "pt"})
PY
no "'model.layers.3.mlp.up_proj': the zero point at [9, 1] (output, group) is 7.5: expected an integer" "$scratch/sym/hqq" gptq
quick recipes/smoothquant.yaml "$scratch/w8a8" --set evaluate=null --set calibration.samples=2
no 'format hqq: quantised activations can'"'"'t be stored' "$scratch/w8a8" hqq
quick recipes/gptq.yaml "$scratch/order" --set evaluate=null --set 'output.formats=[gptq]' --set 'rules[0].solver.gptq.static_groups=false'
no 'format hqq: groups of columns in another order (g_idx)' "$scratch/order" hqq
quick recipes/nvfp4.yaml "$scratch/floats" --set evaluate=null --set output.formats=[compressed-tensors] --set calibration.samples=2
no "format hqq: scheme type 'nvfp4' can't be stored: hqq holds int only" "$scratch/floats" hqq
[[ ! -e $scratch/no ]] || fail "a refused conversion left something"
