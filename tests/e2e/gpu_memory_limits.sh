# On a GPU: activations go to host memory and to a file where --max-vram and --max-ram ask for it, the measured peaks keep the
# limits, which are the smallest that the refusals name, and the bytes are those of a run without limits.
. tests/e2e/lib.sh
[[ -e /dev/nvidia0 ]] || skip "no NVIDIA device on this machine"
"$PYTHON" -c "import transformers" 2>/dev/null || skip "no transformers in this Python, which makes the model"
vocabulary=$(value "$MODEL/config.json" "r['vocab_size']")
checkpoint "$scratch/model" llama \
  "{\"num_hidden_layers\": 6, \"hidden_size\": 256, \"intermediate_size\": 512, \"num_attention_heads\": 4,
    \"num_key_value_heads\": 2, \"head_dim\": 64, \"vocab_size\": $vocabulary, \"max_position_embeddings\": 8192}"
# Samples as long as the largest micro-batch, which then has nothing to give: on a GPU a smaller one may move the last bits.
run() {  # OUTPUT [flags...]
  local output=$1; shift
  "$QUANTIZE" --recipe recipes/awq.yaml --model "$scratch/model" --output "$output" --device cuda --quiet \
    --set evaluate=null --set calibration.samples=8 --set calibration.seq_len=8192 --set 'transforms[0].awq.grid=3' "$@"
}
least() { grep -oE -- "--max-$1 [0-9]+MiB" "$scratch/stderr" | cut -d' ' -f2; }
kept() {  # OUTPUT KIND...: the peak that was measured is within the limit that was given
  local output=$1 kind; shift
  for kind in "$@"; do holds "$scratch/$output/report.json" "0 < r['memory']['peak']['$kind'] <= r['memory']['limits']['$kind']"; done
}
run "$scratch/device" >/dev/null
holds "$scratch/device/report.json" "r['memory']['hidden_states'] == r['memory']['inner_values'] == 'device'"
holds "$scratch/device/report.json" "0 < r['memory']['peak']['vram'] <= r['memory']['planned']['vram']"

refuses 2 "the smallest limit that would do is --max-vram" run "$scratch/none" --max-vram 20MB
vram=$(least vram)
run "$scratch/host" --max-vram "$vram" >/dev/null
holds "$scratch/host/report.json" "r['memory']['hidden_states'] == 'host'"
kept host vram

refuses 2 "the smallest limit that would do is --max-ram" run "$scratch/none" --max-vram "$vram" --max-ram 20MB
run "$scratch/disk" --max-vram "$vram" --max-ram "$(least ram)" >/dev/null
holds "$scratch/disk/report.json" "r['memory']['hidden_states'] == 'disk'"
kept disk vram ram
for place in host disk; do
  cmp "$scratch/device/model.safetensors" "$scratch/$place/model.safetensors" || fail "other bytes with hidden states in $place"
done
