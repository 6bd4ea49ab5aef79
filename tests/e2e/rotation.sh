# Transform hadamard: inputs and weights rotated in blocks. NVFP4 and MXFP4, weights alone and with activations: read back, verified,
# evaluated as the run did, gone on with after a kill; and what can't be had is refused in one line.
. tests/e2e/lib.sh
rotate() { echo "transforms=[{hadamard: {block: $1}}]"; }
only=(--set 'output.formats=[compressed-tensors]')
nearest=(--set 'rules[0].solver={rtn: {range: weighted}}')
kl() { value "$scratch/$1/report.json" "r['evaluation']['kl_mean']"; }

quick recipes/nvfp4-w4a4.yaml "$scratch/no" "${only[@]}" --set "$(rotate 16)" --dry-run >"$scratch/plan"
grep -qF 'transform  hadamard rotates the inputs of 42 linears, and their weights, in blocks of 16 channels' "$scratch/plan" || fail "the plan: $(cat "$scratch/plan")"
grep -qF 'transformers (5.17), SGLang and TensorRT-LLM read past' "$scratch/plan" || fail "no warning: $(cat "$scratch/plan")"
grep -qE 'vLLM.*ok for TP 1; TP 2 fails: no tensor parallelism where inputs are rotated' "$scratch/plan" || fail "vLLM in the plan: $(grep vLLM "$scratch/plan")"
! grep -q '^folds' "$scratch/plan" || fail "a rotation that folds: $(cat "$scratch/plan")"

quick recipes/nvfp4.yaml "$scratch/nvfp4" "${only[@]}" --set "$(rotate 16)"
quick recipes/nvfp4-w4a4.yaml "$scratch/w4a4" "${only[@]}" --set "$(rotate 16)"
quick recipes/mxfp4.yaml "$scratch/mxfp4" --set "$(rotate 32)"
quick recipes/mxfp4.yaml "$scratch/mx_w4a4" --set "$(rotate 32)" --set 'rules[0].activations={type: mxfp4}'
for run in nvfp4 w4a4 mxfp4 mx_w4a4; do
  "$QUANTIZE" eval --model "$scratch/$run" --reference "$MODEL" --text data/text/evaluation.txt --ctx 512 --rows 4 --device cpu --json >"$scratch/eval.json"
  again=$(value "$scratch/eval.json" "r['kl_mean']")
  "$PYTHON" -c "import sys; sys.exit(not abs($(kl "$run") - $again) <= 1e-6 * $again)" || fail "$run: report says KL $(kl "$run"), eval says $again"
  "$QUANTIZE" verify "$scratch/$run" --reference "$MODEL" --json >"$scratch/verdict.json"
  holds "$scratch/verdict.json" "r['passed'] and r['linears'] == 42 and len(r['distances']) == 42"
done
echo "mean KL, rotated: nvfp4 $(kl nvfp4), w4a4 $(kl w4a4); mxfp4 $(kl mxfp4), w4a4 $(kl mx_w4a4)"
"$PYTHON" -c "import sys; sys.exit(not 0 < $(kl nvfp4) < $(kl w4a4) < 0.5)" || fail "NVFP4's divergence"
"$PYTHON" -c "import sys; sys.exit(not 0 < $(kl mxfp4) < $(kl mx_w4a4) < 0.5)" || fail "MXFP4's divergence"
scheme="r['quantization_config']['transform_config']['config_groups']['hadamard']"
holds "$scratch/w4a4/config.json" "($scheme['type'], $scheme['head_dim'], [(a['location'], a['targets'], a['ignore']) for a in $scheme['apply']]) ==
  ('hadamard', 16, [('input', ['Linear'], ['lm_head']), ('weight_input', ['Linear'], ['lm_head'])])"
grep -q 'hadamard' "$scratch/w4a4/README.md" || fail "the card doesn't mention it"
! grep -q 'from transformers import' "$scratch/w4a4/README.md" || fail "the card sends people to transformers, which reads past the rotation"
grep -q 'vllm serve' "$scratch/w4a4/README.md" || fail "the card lacks vLLM"
"$QUANTIZE" inspect "$scratch/w4a4" >"$scratch/inspect"
grep -qF 'scheme: nvfp4 g16, hadamard 16, input nvfp4 dynamic per group of 16: 42 linears' "$scratch/inspect" || fail "inspect: $(grep scheme: "$scratch/inspect")"
"$QUANTIZE" compare "$scratch/nvfp4" "$scratch/w4a4" --reference "$MODEL" --text data/text/evaluation.txt --ctx 512 --rows 4 --json >"$scratch/compare.json"
holds "$scratch/compare.json" "abs(r['artefacts'][1]['kl'] / $(kl w4a4) - 1) < 1e-6"

# Codes and matrices go where they can be said, and nowhere else.
"$QUANTIZE" convert --model "$scratch/w4a4" --to compressed-tensors --output "$scratch/again" --quiet
cmp "$scratch/w4a4/model.safetensors" "$scratch/again/model.safetensors"
cmp "$scratch/w4a4/config.json" "$scratch/again/config.json"
for format in modelopt gguf:Q4_K_M nvfp4-swizzled; do
  refuses 2 'its input is rotated in blocks of 16' "$QUANTIZE" convert --model "$scratch/w4a4" --to "$format" --output "$scratch/no"
done

# Taken for one that is not rotated, it fails its checks.
cp -r "$scratch/mxfp4" "$scratch/unrotated"
"$PYTHON" - "$scratch/unrotated" <<'P'
import json, pathlib, sys
from safetensors.torch import load_file, save_file
folder = pathlib.Path(sys.argv[1])
config = json.loads((folder / "config.json").read_text())
config["quantization_config"]["transform_config"] = {}
(folder / "config.json").write_text(json.dumps(config))
tensors = load_file(folder / "model.safetensors")
save_file({k: v for k, v in tensors.items() if "hadamard" not in k}, folder / "model.safetensors", metadata={"format": "pt"})
(folder / "manifest.json").unlink()
P
status=0; "$QUANTIZE" verify "$scratch/unrotated" --reference "$MODEL" >"$scratch/said" 2>&1 || status=$?
((status == 3)) || fail "verify of a forgotten rotation: exit code $status: $(head -c 300 "$scratch/said")"
grep -q 'failed: distance' "$scratch/said" || fail "$(head -c 300 "$scratch/said")"

# A run that is killed goes on, to the same bytes.
"$PYTHON" tests/tools/kill_and_resume.py "$QUANTIZE" "$scratch/killed" --kills 2 --seed 7 -- --recipe recipes/nvfp4-w4a4.yaml --device cpu --journal-every 0 \
  --set evaluate=null "${only[@]}" --set "$(rotate 16)" --set calibration.samples=8 --set calibration.seq_len=256 || fail "killed"

refused() { local text=$1; shift; refuses 2 "$text" quick "$@" --set evaluate=null; }
refused 'block 48: expected 16, 32, 64 or 128' recipes/mxfp4.yaml "$scratch/no" --set "$(rotate 48)"
refused 'expected an integer from 16 to 128' recipes/mxfp4.yaml "$scratch/no" --set "$(rotate 8)"
refused 'mixes the channels that awq chooses scales for' recipes/mxfp4.yaml "$scratch/no" --set 'transforms=[{awq: {}}, {hadamard: {}}]'
refused 'format modelopt: its input is rotated' recipes/nvfp4.yaml "$scratch/no" --set "$(rotate 16)"
refused 'format gguf:Q4_K_M: its input is rotated' recipes/gguf.yaml "$scratch/no" --set "$(rotate 16)"
refused 'layout nvfp4-swizzled: its input is rotated' recipes/nvfp4.yaml "$scratch/no" "${only[@]}" --set 'output.formats=[compressed-tensors, nvfp4-swizzled]' --set "$(rotate 16)"
refused 'calibration: null' recipes/mxfp4.yaml "$scratch/no" "${nearest[@]}" --set calibration=null --set "$(rotate 32)"
if "$PYTHON" -c 'import transformers' 2>/dev/null; then
  vocab=$(value "$MODEL/config.json" "r['vocab_size']")
  checkpoint "$scratch/narrow" llama "{\"vocab_size\": $vocab, \"hidden_size\": 64, \"intermediate_size\": 96, \"head_dim\": 16, \"num_attention_heads\": 4, \"num_key_value_heads\": 2}"
  refused "blocks of 64 do not divide the 96 input features of 'model.layers.0.mlp.down_proj'" recipes/mxfp4.yaml "$scratch/no" --model "$scratch/narrow" --set "$(rotate 64)"
  checkpoint "$scratch/experts" qwen2_moe "{\"vocab_size\": $vocab, \"num_experts\": 5}"
  refused 'which vLLM does for no experts' recipes/mxfp4.yaml "$scratch/no" --model "$scratch/experts" --set "$(rotate 16)"
fi
