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
  for kind in "$@"; do
    echo "$output: $kind: a peak of $(value "$scratch/$output/report.json" "'{} MiB of {}'.format(*(r['memory'][k]['$kind'] >> 20 for k in ('peak', 'limits')))")"
    holds "$scratch/$output/report.json" "0 < r['memory']['peak']['$kind'] <= r['memory']['limits']['$kind']"
  done
}
# The report's peak is the allocator's, to which the plan adds what CUDA itself takes; the driver counts all of it. A run's own is
# what the device holds beside what it held before.
used() { nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | sort -n | tail -1; }
watched_run() {  # OUTPUT [flags...]: leaves the MiB that the driver counted in $scratch/OUTPUT.used
  local before watcher
  before=$(used)
  nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 20 >"$scratch/used" &
  watcher=$!
  run "$scratch/$1" "${@:2}" >/dev/null
  kill "$watcher" && wait "$watcher" || true
  echo $(($(sort -n "$scratch/used" | tail -1) - before)) >"$scratch/$1.used"
}
vram_of() { value "$scratch/$1/report.json" "r['memory']['$2']['vram']"; }
within() {  # OUTPUT BYTES
  local found most
  found=$(<"$scratch/$1.used") most=$(($2 >> 20))
  echo "$1: the driver counts $found MiB, the allocator $(($(vram_of "$1" peak) >> 20)) MiB, the limit or plan is $most MiB"
  ((found <= most)) || fail "$1 took $found MiB of the device, beyond $most"
}
watched_run device
within device "$(vram_of device planned)"
holds "$scratch/device/report.json" "r['memory']['hidden_states'] == r['memory']['inner_values'] == 'device'"
holds "$scratch/device/report.json" "0 < r['memory']['peak']['vram'] <= r['memory']['planned']['vram']"

refuses 2 "the smallest limit that would do is --max-vram" run "$scratch/none" --max-vram 20MB
vram=$(least vram)
watched_run host --max-vram "$vram"
within host "$(vram_of host limits)"
holds "$scratch/host/report.json" "r['memory']['hidden_states'] == 'host'"
kept host vram

refuses 2 "the smallest limit that would do is --max-ram" run "$scratch/none" --max-vram "$vram" --max-ram 20MB
watched_run disk --max-vram "$vram" --max-ram "$(least ram)"
within disk "$(vram_of disk limits)"
holds "$scratch/disk/report.json" "r['memory']['hidden_states'] == 'disk'"
kept disk vram ram
for place in host disk; do
  cmp "$scratch/device/model.safetensors" "$scratch/$place/model.safetensors" || fail "other bytes with hidden states in $place"
done
