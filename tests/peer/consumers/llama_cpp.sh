#!/usr/bin/env bash
# GGUF files of every type and of every family, made by the real binary, in llama.cpp; and our importance matrix in its quantiser.
#   llama_cpp.sh LOGITS_PROGRAM ENCODE_PROGRAM     (QUANTIZE and PYTHON as in tests/e2e/lib.sh)
. tests/e2e/lib.sh
logits=$1 encode=$2
peer=${LLAMA_CPP_PYTHON:-build/peers/llama_cpp/bin/python}
if [[ -z ${LLAMA_CPP_PYTHON:-} ]]; then
  cmp -s tests/bench/quality/peers/llama_cpp.txt build/peers/llama_cpp/installed || skip "needs llama.cpp's environment: make test-peers"
fi
types=(F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q2_K_S Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4)
formats=$(printf ',"gguf:%s"' "${types[@]}")
quick recipes/gguf.yaml "$scratch/tiny" --set evaluate=null --set "output.formats=[${formats:1}]"
files=()
for type in "${types[@]}"; do files+=("$scratch/tiny/gguf-$type/lathe-tiny-$type.gguf"); done

vocab=$(value "$MODEL/config.json" "r['vocab_size']")
# Sizes that llama.cpp's architectures insist on: all heads as wide as the hidden state, experts in whole blocks.
config_of() {
  local more=""
  case $1 in  # llama.cpp rounds a context up to 256 tokens, which decides between LongRoPE's lists
    gemma2 | gemma3*) more=', "query_pre_attn_scalar": 16, "tie_word_embeddings": true' ;;
    llama) more=', "rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
      "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}' ;;
    phi3-long) more=', "original_max_position_embeddings": 512, "max_position_embeddings": 1024, "rope_parameters": {"rope_type": "longrope",
      "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "short_factor": [1.0, 1.1, 1.3, 2.0], "long_factor": [1.5, 2.0, 4.0, 8.0]}' ;;
    mixtral) more=', "intermediate_size": 64' ;;
    qwen2_moe) more=', "moe_intermediate_size": 64, "shared_expert_intermediate_size": 96, "norm_topk_prob": false' ;;
    qwen3_moe) more=', "moe_intermediate_size": 64, "norm_topk_prob": true' ;;
    olmoe) more=', "intermediate_size": 64, "num_key_value_heads": 4, "norm_topk_prob": false' ;;
  esac
  echo "{\"vocab_size\": $vocab, \"hidden_size\": 64$more}"
}
for family in llama mistral qwen2 qwen3 gemma2 gemma3_text gemma3 phi3 phi3-long mixtral qwen2_moe qwen3_moe olmoe; do
  stacked=()
  [[ $family == qwen3_moe ]] && stacked=(--stacked-experts)
  name=${family/phi3/fused}  # llama.cpp expects Phi-3's own tokens of a model of that name
  "$PYTHON" tests/tools/make_checkpoint.py "$scratch/$name" --family "${family%-long}" --tokenizer "$MODEL" --config "$(config_of "$family")" \
    "${stacked[@]}" >/dev/null 2>&1 || fail "no checkpoint of $family"
  quick recipes/gguf.yaml "$scratch/out-$name" --model "$scratch/$name" --set evaluate=null --set calibration=null --set 'output.formats=["gguf:F32"]'
  files+=("$scratch/out-$name/$name-F32.gguf")
done

# Experts in blocks with importances of each, and in parts. All experts are used: a router's choice between two that are nearly
# alike is a step, which rounded activations take on the other side.
for family in mixtral qwen2_moe; do
  all=$(config_of "$family" | sed 's/}$/, "num_experts_per_tok": 6}/')
  "$PYTHON" tests/tools/make_checkpoint.py "$scratch/all-$family" --family "$family" --tokenizer "$MODEL" --config "$all" >/dev/null 2>&1 ||
    fail "no checkpoint of $family"
  for type in F32 Q5_0 MXFP4_MOE; do
    quick recipes/gguf.yaml "$scratch/parts-$family-$type" --model "$scratch/all-$family" --set evaluate=null --set calibration.seq_len=64 \
      --set "output.formats=[\"gguf:$type\"]" --set output.gguf_shard_size=300KB
    parts=("$scratch/parts-$family-$type/all-$family-$type-"*.gguf)
    ((${#parts[@]} > 1)) || fail "not split: $(ls "$scratch/parts-$family-$type")"
    files+=("${parts[0]}")
  done
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

"$encode" "$MODEL" data/text/evaluation.txt | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)[:512])' >"$scratch/ids.json"
own=()
for type in Q2_K Q3_K_S Q4_K_S IQ4_XS; do own+=("$scratch/tiny/gguf-$type/lathe-tiny-$type.gguf"); done
"$peer" tests/peer/consumers/llama_cpp_imatrix.py "$scratch/tiny/gguf-F32/imatrix.gguf" "${files[0]}" "$scratch/ids.json" "$scratch" "${own[@]}" \
  >"$scratch/log" 2>"$scratch/errors" || { grep '^{' "$scratch/log" || true; fail "$(tail -3 "$scratch/errors")"; }
grep '^{' "$scratch/log"
(($(grep -c '^{' "$scratch/log") == 5)) || fail "not every type was checked"
