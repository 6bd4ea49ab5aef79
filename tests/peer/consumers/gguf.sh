#!/usr/bin/env bash
# GGUF files of several types and families, made by the real binary, read by gguf-py, their weights run by transformers.
#   gguf.sh LOGITS_PROGRAM     (QUANTIZE and PYTHON as in tests/e2e/lib.sh)
. tests/e2e/lib.sh
logits=$1
"$PYTHON" -c 'import transformers, gguf' 2>/dev/null || skip "needs transformers and gguf"
same() { "$PYTHON" tests/peer/consumers/gguf_py.py "$1" "$2" "$logits"; }

quick recipes/gguf.yaml "$scratch/tiny" --set evaluate=null --set 'output.formats=["gguf:F16","gguf:Q8_0","gguf:Q4_K_M"]'
for type in F16 Q8_0 Q4_K_M; do same "$MODEL" "$scratch/tiny/gguf-$type/lathe-tiny-$type.gguf"; done

vocab=$(value "$MODEL/config.json" "r['vocab_size']")
for family in llama mistral qwen2 qwen3 gemma2 gemma3_text phi3 mixtral qwen2_moe qwen3_moe olmoe; do
  rm -rf "$scratch/model" "$scratch/out"
  config="{\"vocab_size\": $vocab}"
  [[ $family == gemma* ]] && config="{\"vocab_size\": $vocab, \"query_pre_attn_scalar\": 16, \"tie_word_embeddings\": true}"
  [[ $family == llama ]] && config="{\"vocab_size\": $vocab, \"rope_parameters\": {\"rope_type\": \"llama3\", \"rope_theta\": 10000.0, \"factor\": 8.0,
    \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}}"
  [[ $family == qwen?_moe ]] && config="{\"vocab_size\": $vocab, \"moe_intermediate_size\": 64, \"norm_topk_prob\": $([[ $family == qwen3* ]] && echo true || echo false)}"
  [[ $family == olmoe ]] && config="{\"vocab_size\": $vocab, \"intermediate_size\": 64, \"num_key_value_heads\": 4}"
  "$PYTHON" tests/tools/make_checkpoint.py "$scratch/model" --family "$family" --tokenizer "$MODEL" --config "$config" >/dev/null 2>&1 ||
    fail "no checkpoint of $family"
  quick recipes/gguf.yaml "$scratch/out" --model "$scratch/model" --set evaluate=null --set calibration=null --set 'output.formats=["gguf:Q8_0"]'
  same "$scratch/model" "$scratch/out/model-Q8_0.gguf" || fail "$family"
done
