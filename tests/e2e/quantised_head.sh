# A head of its own weight (lm_head) is quantised where the recipe doesn't leave it out: by solvers with and without data, in every
# format whose readers take it, under a budget, through a kill and a conversion. A tied one stays as it is.
. tests/e2e/lib.sh
"$PYTHON" -c 'import torch, safetensors' 2>/dev/null || skip "needs torch and safetensors"
"$PYTHON" tests/tools/untie_head.py "$MODEL" "$scratch/model"
head=(--model "$scratch/model" --set 'ignore=[]')
run() { local recipe=$1 output=$2; shift 2; quick "recipes/$recipe.yaml" "$scratch/$output" "${head[@]}" "$@"; }
quantised() {  # FOLDER: the report has the head's row, nothing was kept, the artefact holds
  holds "$scratch/$1/report.json" "[l for l in r['linears'] if l['role'] == 'lm_head'][0]['block'] == 6 and not r['kept'] and len(r['linears']) == 43"
  "$QUANTIZE" verify "$scratch/$1" --reference "$scratch/model" >"$scratch/log" || fail "$1: $(tail -3 "$scratch/log")"
  grep -q '43 linears' "$scratch/log" || fail "$1: $(cat "$scratch/log")"
}
run gptq several --set 'rules[0].scheme.symmetric=true' --set 'output.formats=[compressed-tensors, gptq, gptq-v2, marlin]'
for format in compressed-tensors gptq gptq-v2; do quantised "several/$format"; done
holds "$scratch/several/gptq/config.json" "r['quantization_config']['lm_head'] is True"
# Measured on what it reads: as little is lost as in any other linear of so many bits.
holds "$scratch/several/gptq/report.json" "0 < [l for l in r['linears'] if l['role'] == 'lm_head'][0]['output_error'] < 0.02"
run rtn weights --set calibration=null
quantised weights
run smoothquant int8
quantised int8
# Its input is rounded, too, when it is run.
kl() { "$QUANTIZE" eval --model "$1" --reference "$scratch/model" --text data/text/evaluation.txt --ctx 256 --rows 4 --json 2>/dev/null >"$scratch/eval"; value "$scratch/eval" "r['kl_mean']"; }
quick recipes/smoothquant.yaml "$scratch/int8-kept" --model "$scratch/model"
with=$(kl "$scratch/int8") without=$(kl "$scratch/int8-kept")
"$PYTHON" -c "import sys; a, b = map(float, sys.argv[1:]); assert b < a < 0.01, (a, b)" "$with" "$without" || fail "KL $with with the head, $without without"

# Another format, by the same codes.
"$QUANTIZE" convert --model "$scratch/several/gptq" --to compressed-tensors --output "$scratch/converted" --quiet
"$QUANTIZE" verify "$scratch/converted" --reference "$scratch/model" | grep -q '43 linears' || fail "the head was lost in conversion"
for tensor in weight_packed weight_scale; do
  "$PYTHON" - "$scratch/converted" "$scratch/several/compressed-tensors" "lm_head.$tensor" <<'P' || fail "$tensor isn't the same"
import sys
from safetensors import safe_open
a, b = (safe_open(f"{folder}/model.safetensors", "pt").get_tensor(sys.argv[3]) for folder in sys.argv[1:3])
assert a.equal(b)
P
done

# A kernel layout has it, too, and gives it back.
"$QUANTIZE" convert --model "$scratch/several/layouts/marlin" --to compressed-tensors --output "$scratch/from-layout" --quiet
"$QUANTIZE" verify "$scratch/from-layout" --reference "$scratch/model" | grep -q '43 linears' || fail "the head was lost in a layout"
refuses 2 "lm_head: format awq: a quantised head is written in compressed-tensors, gptq and gptq-v2 alone" \
  "$QUANTIZE" convert --model "$scratch/several/gptq" --to awq --output "$scratch/no"
# Who reads such a head.
"$QUANTIZE" inspect "$scratch/several/gptq" --json >"$scratch/inspected"
holds "$scratch/inspected" "all(not c['kernel'] for c in r['consumers'] if c['consumer'] in ('transformers', 'SGLang', 'TensorRT-LLM'))"
holds "$scratch/inspected" "any(c['kernel'] for c in r['consumers'] if c['consumer'] == 'vLLM')"

# The same bytes after a kill in the middle; the head is the last step.
"$PYTHON" tests/tools/kill_and_resume.py "$QUANTIZE" "$scratch/killed" --kills 3 --seed 1 -- --recipe recipes/gptq.yaml --device cpu --journal-every 0 \
  --set evaluate=null --set calibration.samples=8 --set calibration.seq_len=256 "${head[@]}" || fail "killed"

# A budget chooses for it, too, by the KL that its rounding alone costs.
run mixed-4.25bpw mixed --set sensitivity.held_out=2
holds "$scratch/mixed/budget.json" "[g for g in r['groups'] if g['name'] == 'lm_head'][0]['losses'][0] > 0 and len(r['groups']) == 25"
holds "$scratch/mixed.sensitivity.json" "all(l['kl'] > 0 and l['fisher'] is None for g in r['groups'] if g['name'] == 'lm_head' for l in g['losses'])"
holds "$scratch/mixed/report.json" "[g for g in r['sensitivity']['groups'] if g['role'] == 'lm_head'][0]['block'] == 6"
holds "$scratch/mixed/budget.json" "4.2 < r['chosen']['bits_per_weight'] <= 4.25"

# What can't be had is said before anything is read.
refuses 2 "lm_head, whose weight is the embedding's (tie_word_embeddings)" quick recipes/gptq.yaml "$scratch/no" --set 'ignore=[]'
refuses 2 "lm_head: format awq: " run awq no "${symmetric[@]}" --set 'output.formats=[awq]'
refuses 2 "lm_head: format gguf:Q4_0: rounds the head by itself" run rtn no --set 'output.formats=["gguf:Q4_0"]' --set 'rules[0].scheme.group_size=32'
refuses 2 "lm_head, whose input no engine rotates" run rtn no --set 'transforms=[{hadamard: {block: 32}}]'
