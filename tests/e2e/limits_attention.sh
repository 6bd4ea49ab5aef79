# Masks of sliding windows and spelt-out scores under a soft cap stay within the limit, too: long rows, many heads.
. tests/e2e/lib.sh
vocabulary=$(value "$MODEL/config.json" "r['vocab_size']")
for case in "mistral 8192 4096 8" "gemma2 2048 512 32"; do
  read -r family length window heads <<<"$case"
  model=$scratch/$family
  checkpoint "$model" "$family" \
    "{\"num_hidden_layers\": 2, \"hidden_size\": 64, \"intermediate_size\": 128, \"num_attention_heads\": $heads,
      \"num_key_value_heads\": 2, \"head_dim\": 16, \"vocab_size\": $vocabulary, \"sliding_window\": $window,
      \"max_position_embeddings\": $length}"
  run() {  # OUTPUT [flags...]
    local output=$1; shift
    "$QUANTIZE" --recipe recipes/rtn.yaml --model "$model" --output "$output" --device cpu --quiet --overwrite \
      --set evaluate=null --set calibration.samples=2 --set "calibration.seq_len=$length" \
      --set 'rules[0].scheme.group_size=64' "$@"
  }
  refuses 2 "the smallest limit that would do is --max-ram" run "$scratch/none" --max-ram 20MB
  least=$(grep -oE -- '--max-ram [0-9]+MiB' "$scratch/stderr" | cut -d' ' -f2)
  run "$scratch/least" --max-ram "$least" >/dev/null
  holds "$scratch/least/report.json" "r['memory']['peak']['ram'] <= r['memory']['limits']['ram']"
done
