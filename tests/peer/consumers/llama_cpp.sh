#!/usr/bin/env bash
# GGUF files of many types and of every family, made by the real binary, in llama.cpp.
#   llama_cpp.sh LOGITS_PROGRAM ENCODE_PROGRAM     (QUANTIZE and PYTHON as in tests/e2e/lib.sh)
. tests/e2e/lib.sh
logits=$1 encode=$2
peer=${LLAMA_CPP_PYTHON:-build/peers/llama_cpp/bin/python}
if [[ -z ${LLAMA_CPP_PYTHON:-} ]]; then
  cmp -s tests/bench/quality/peers/llama_cpp.txt build/peers/llama_cpp/installed || skip "needs llama.cpp's environment: make test-peers"
fi
types=(F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K_M Q4_K_S Q4_K_M Q5_K_M Q6_K IQ4_NL IQ4_XS MXFP4)
formats=$(printf ',"gguf:%s"' "${types[@]}")
quick recipes/gguf.yaml "$scratch/tiny" --set evaluate=null --set "output.formats=[${formats:1}]"
files=()
for type in "${types[@]}"; do files+=("$scratch/tiny/gguf-$type/lathe-tiny-$type.gguf"); done

vocab=$(value "$MODEL/config.json" "r['vocab_size']")
for family in llama mistral qwen2 qwen3 gemma2 gemma3_text; do
  config="{\"vocab_size\": $vocab, \"hidden_size\": 64}"
  [[ $family == gemma* ]] && config="{\"vocab_size\": $vocab, \"query_pre_attn_scalar\": 16, \"tie_word_embeddings\": true}"
  [[ $family == llama ]] && config="{\"vocab_size\": $vocab, \"rope_parameters\": {\"rope_type\": \"llama3\", \"rope_theta\": 10000.0, \"factor\": 8.0,
    \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}}"
  "$PYTHON" tests/tools/make_checkpoint.py "$scratch/$family" --family "$family" --tokenizer "$MODEL" --config "$config" >/dev/null 2>&1 ||
    fail "no checkpoint of $family"
  quick recipes/gguf.yaml "$scratch/out-$family" --model "$scratch/$family" --set evaluate=null --set calibration=null --set 'output.formats=["gguf:F32"]'
  files+=("$scratch/out-$family/$family-F32.gguf")
done

# SentencePiece: a small model with byte fallback, trained here.
"$PYTHON" tests/tools/make_checkpoint.py "$scratch/spm" --family llama --config '{"vocab_size": 600}' >/dev/null 2>&1 || fail "no checkpoint for SentencePiece"
"$PYTHON" - "$scratch/spm/tokenizer" <<'END' >/dev/null 2>&1 || fail "no SentencePiece model"
import sys, sentencepiece
sentencepiece.SentencePieceTrainer.train(input="data/text/evaluation.txt", model_prefix=sys.argv[1], vocab_size=600, model_type="bpe",
                                         byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
                                         num_threads=1, minloglevel=2)
END
quick recipes/gguf.yaml "$scratch/out-spm" --model "$scratch/spm" --set evaluate=null --set calibration=null --set 'output.formats=["gguf:F32"]'
files+=("$scratch/out-spm/spm-F32.gguf")
"$peer" tests/peer/consumers/llama_cpp_logits.py "$logits" "$encode" "${files[@]}" 2>"$scratch/errors" || fail "$(tail -3 "$scratch/errors")"
