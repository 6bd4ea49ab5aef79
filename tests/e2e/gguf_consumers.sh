# The plan, `inspect` and the model card say the same of who reads a GGUF file, by the types of its blocks, and the card says how each
# of them loads it, under the file's own name.
. tests/e2e/lib.sh
run() { quick recipes/gguf.yaml "$scratch/out" --set evaluate=null --set calibration=null --set 'output.formats=["gguf:Q4_K_M","gguf:TQ2_0","gguf:MXFP4"]' "$@"; }
run
run --overwrite --dry-run >"$scratch/plan"
for type in Q4_K_M TQ2_0 MXFP4; do
  folder=$scratch/out/gguf-$type
  sed -n "s/^consumer   gguf:$type: //p" "$scratch/plan" >"$scratch/planned"
  (($(wc -l <"$scratch/planned") == 5)) || fail "$type: the plan has $(wc -l <"$scratch/planned") lines on consumers: $(grep consumer "$scratch/plan")"
  "$QUANTIZE" inspect "$folder" | sed -n 's/^consumer: //p' | diff "$scratch/planned" - || fail "$type: inspect and the plan differ"
  sed -n '/^## What consumers make of it/,$ s/^- //p' "$folder/README.md" | diff "$scratch/planned" - || fail "$type: the card and the plan differ"
  file=lathe-tiny-$type.gguf
  ! grep -q 'MODEL.gguf' "$folder"/{README,report}.md || fail "$type: a placeholder for the file's name"
  grep -qF "llama-cli -m this/folder/$file" "$folder/README.md" && grep -qF "gguf_file=\"$file\"" "$folder/README.md" ||
    fail "$type: $(grep 'this/folder' "$folder/README.md")"
done
card=$scratch/out/gguf-Q4_K_M/README.md
grep -qF 'vllm serve this/folder/lathe-tiny-Q4_K_M.gguf' "$card" && grep -qF 'sglang.launch_server --model-path this/folder/lathe-tiny-Q4_K_M.gguf' "$card" ||
  fail "servers: $(grep -A2 '^With' "$card")"
for type in TQ2_0 MXFP4; do
  card=$scratch/out/gguf-$type/README.md
  grep -q "^- SGLang: does not read it: it has no kernel for $type ('blk.0" "$card" || fail "$type: $(grep SGLang "$card")"
  grep -q '^vLLM and SGLang do not load all of it' "$card" && ! grep -q 'vllm serve' "$card" || fail "$type: the card tells how to load it"
done
# In parts the first is named; a converted file's card is like a run's.
run --overwrite --set 'output.formats=["gguf:Q8_0"]' --set output.gguf_shard_size=2MB
grep -qF 'llama-cli -m this/folder/lathe-tiny-Q8_0-00001-of-00004.gguf' "$scratch/out/README.md" || fail "parts: $(grep llama-cli "$scratch/out/README.md")"
quick recipes/rtn.yaml "$scratch/words" "${symmetric[@]}" --set evaluate=null
"$QUANTIZE" convert --model "$scratch/words" --to gguf:Q4_0 --output "$scratch/converted" --quiet
grep -qF 'vllm serve this/folder/words-Q4_0.gguf' "$scratch/converted/README.md" || fail "converted: $(grep -A2 '^With' "$scratch/converted/README.md")"
