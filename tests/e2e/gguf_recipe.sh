#!/usr/bin/env bash
# The shipped GGUF recipe on the embedded model: one file, its importance matrix beside, scored; several types in one run; an imatrix
# read back; GPTQ's codes in Q4_0 blocks.
. tests/e2e/lib.sh
out=$scratch/out
quick recipes/gguf.yaml "$out"
[[ -f $out/lathe-tiny-Q4_K_M.gguf && -f $out/imatrix.gguf && -f $out/tokenizer.json && ! -e $out/config.json ]] || fail "files: $(ls "$out")"
holds "$out/report.json" "0 < r['evaluation']['kl_mean'] < 0.05 and r['totals']['bytes_after'] < 0.4 * r['totals']['bytes_before']"

# The report says of every tensor what was lost, and names its measure.
holds "$out/report.json" "all(0 < l['output_error'] < 0.02 and 0 < l['importance_weighted_error'] < 0.02 and l['weight_error'] > 0 for l in r['linears'])"
holds "$out/report.json" "len(r['tensors']) == 56 and all(0 < t['weight_error'] < 0.02 for t in r['tensors'] if t['type'] != 'F32')"
grep -q '## Mean output error by role' "$out/report.md" || fail "report.md names no measure"

# eval reads the folder and the file, as the run did.
"$QUANTIZE" eval --model "$out" --reference "$MODEL" --text data/text/evaluation.txt --rows 4 --device cpu --json >"$scratch/folder.json"
"$QUANTIZE" eval --model "$out/lathe-tiny-Q4_K_M.gguf" --text data/text/evaluation.txt --rows 4 --device cpu --json >"$scratch/file.json"
[[ $(value "$scratch/folder.json" "r['perplexity']") == $(value "$scratch/file.json" "r['perplexity']") ]] || fail "folder and file differ"
[[ $(value "$scratch/folder.json" "r['kl_mean']") == $(value "$out/report.json" "r['evaluation']['kl_mean']") ]] || fail "eval and report differ"

# Without its folder, the file's own tokenizer gives the same ids.
mkdir "$scratch/alone" && cp "$out/lathe-tiny-Q4_K_M.gguf" "$scratch/alone"
"$QUANTIZE" eval --model "$scratch/alone" --text data/text/evaluation.txt --rows 4 --device cpu --json >"$scratch/alone.json"
[[ $(value "$scratch/alone.json" "r['perplexity']") == $(value "$scratch/file.json" "r['perplexity']") ]] || fail "the tokenizer in the file is another one"
quick recipes/rtn.yaml "$scratch/from-gguf" "${symmetric[@]}" --model "$scratch/alone" --set evaluate=null
[[ -f $scratch/from-gguf/tokenizer.json && -f $scratch/from-gguf/config.json ]] || fail "an artefact of a GGUF file lacks its tokenizer"

# The same importances from the file that was written: the same bytes.
quick recipes/gguf.yaml "$scratch/again" --set evaluate=null --set calibration=null --set "output.imatrix=$out/imatrix.gguf"
cmp "$out/lathe-tiny-Q4_K_M.gguf" "$scratch/again/lathe-tiny-Q4_K_M.gguf" || fail "an imatrix that was read gives other blocks"
quick recipes/gguf.yaml "$scratch/without" --set evaluate=null --set calibration=null
! cmp -s "$out/lathe-tiny-Q4_K_M.gguf" "$scratch/without/lathe-tiny-Q4_K_M.gguf" || fail "importances change nothing"

# F16 is the model itself; several types make a folder each.
quick recipes/gguf.yaml "$scratch/two" --set 'output.formats=["gguf:F16","gguf:Q8_0"]' --set calibration=null
holds "$scratch/two/gguf-F16/report.json" "r['evaluation']['kl_mean'] == 0"
[[ -f $scratch/two/gguf-Q8_0/lathe-tiny-Q8_0.gguf ]] || fail "no Q8_0"
holds "$scratch/two/gguf-Q8_0/report.json" "all(l['scheme'] == 'Q8_0' for l in r['linears']) and r['totals']['bits_per_quantized_weight'] == 8.5"
# In parts: the same model. (A type's name may be in lower case.)
quick recipes/gguf.yaml "$scratch/parts" --set 'output.formats=["gguf:q8_0"]' --set calibration=null --set evaluate=null --set output.gguf_shard_size=2MB
[[ -f $scratch/parts/lathe-tiny-Q8_0-00001-of-00004.gguf ]] || fail "parts: $(ls "$scratch/parts")"
"$QUANTIZE" eval --model "$scratch/parts" --reference "$scratch/two/gguf-Q8_0" --text data/text/evaluation.txt --rows 1 --device cpu --json >"$scratch/parts.json"
holds "$scratch/parts.json" "r['kl_mean'] == 0"
quick recipes/gguf.yaml "$scratch/whole_parts" --set 'output.formats=["gguf:F16"]' --set calibration=null --set evaluate=null --set output.gguf_shard_size=8MB
rm "$scratch/parts/lathe-tiny-Q8_0-00003-of-00004.gguf"
refuses 2 "is missing: part 3 of 4" "$QUANTIZE" inspect "$scratch/parts"
# A GGUF file is a model to start from.
quick recipes/gguf.yaml "$scratch/again8" --model "$scratch/two/gguf-F16/lathe-tiny-F16.gguf" --set calibration=null --set evaluate=null --set 'output.formats=["gguf:Q8_0"]'
cmp "$scratch/two/gguf-Q8_0/lathe-tiny-Q8_0.gguf" "$scratch/again8/lathe-tiny-Q8_0.gguf" || fail "F16 in a GGUF file is another model than the checkpoint"

# Each folder's report has its own figures: those of its file, not of the first format.
quick recipes/gptq.yaml "$scratch/scores" "${symmetric[@]}" --set 'output.formats=[gptq, "gguf:Q2_K"]' --set 'rules[0].scheme.bits=3'
for folder in gptq gguf-Q2_K; do
  "$QUANTIZE" eval --model "$scratch/scores/$folder" --reference "$MODEL" --text data/text/evaluation.txt --ctx 512 --rows 4 --device cpu --json >"$scratch/own.json"
  kl=$(value "$scratch/own.json" "r['kl_mean']")
  holds "$scratch/scores/$folder/report.json" "abs(r['evaluation']['kl_mean'] - $kl) <= 1e-6 * $kl"
done

# GPTQ's codes go in as they are: what is converted back from the GGUF file is the checkpoint beside it.
quick recipes/gptq.yaml "$scratch/gptq" "${symmetric[@]}" --set 'output.formats=[gptq-v2, "gguf:Q4_0"]' --set evaluate=null \
  --set 'rules=[{targets: [linear], scheme: {bits: 4, group_size: 32}, solver: {gptq: {}}}]'
"$QUANTIZE" convert --model "$scratch/gptq/gguf-Q4_0/lathe-tiny-Q4_0.gguf" --to gptq-v2 --output "$scratch/back" --quiet
"$PYTHON" - "$scratch/gptq/gptq-v2/model.safetensors" "$scratch/back/model.safetensors" <<'END' || fail "codes differ"
import sys
from safetensors import safe_open
ours, back = (safe_open(path, "pt") for path in sys.argv[1:])
names = [name for name in ours.keys() if name.endswith((".qweight", ".scales", ".qzeros"))]
sys.exit(not names or any(not ours.get_tensor(name).equal(back.get_tensor(name)) for name in names))
END
holds "$scratch/back/manifest.json" "r['converted']['from'] == 'gguf'"

"$QUANTIZE" convert --model "$scratch/gptq/gptq-v2" --to gguf:Q4_0 --output "$scratch/converted" --quiet
"$QUANTIZE" eval --model "$scratch/converted" --reference "$scratch/gptq/gptq-v2" --text data/text/evaluation.txt --rows 2 --device cpu --json >"$scratch/kl.json"
holds "$scratch/kl.json" "abs(r['kl_mean']) < 1e-9"
refuses 2 "are not those of Q4_K blocks" "$QUANTIZE" convert --model "$scratch/gptq/gptq-v2" --to gguf:Q4_K_M --output "$scratch/x"
refuses 2 "is Q4_K, which scales each group by an integer" "$QUANTIZE" convert --model "$out" --to awq --output "$scratch/x"

# Blocks with scales of either sign, which are llama.cpp's and ours, are codes with zero points; MX codes are MX codes.
carries() {  # carries FROM TO NAME KL: the converted artefact is the same model; embeddings in blocks become F16
  "$QUANTIZE" convert --model "$1" --to "$2" --output "$scratch/$3" --quiet
  "$QUANTIZE" eval --model "$scratch/$3" --reference "$1" --text data/text/evaluation.txt --rows 1 --ctx 256 --device cpu --json >"$scratch/kl.json"
  holds "$scratch/kl.json" "abs(r['kl_mean']) < $4"
}
quick recipes/gguf.yaml "$scratch/signs" --set 'output.formats=["gguf:Q4_0"]' --set calibration=null --set evaluate=null
carries "$scratch/signs" compressed-tensors signs_ct 1e-6
holds "$scratch/signs_ct/config.json" "r['quantization_config']['config_groups']['group_0']['weights']['symmetric'] is False"
carries "$scratch/two/gguf-Q8_0" gptq-v2 eight 1e-6
quick recipes/rtn.yaml "$scratch/mx" --set evaluate=null --set 'rules=[{targets: [linear], scheme: {type: mxfp4}, solver: {rtn: {}}}]' --set 'output.formats=[compressed-tensors]'
carries "$scratch/mx" gguf:MXFP4 mx_gguf 1e-9
carries "$scratch/mx_gguf" compressed-tensors mx_back 1e-9
# MXINT8's integers are Q8_0's, under a power of two: nothing is rounded again, and the folder it becomes has the same weights.
mxint8=(--set evaluate=null --set 'rules=[{targets: [linear], scheme: {type: mxint8}, solver: {rtn: {}}}]')
quick recipes/rtn.yaml "$scratch/mxint8" "${mxint8[@]}" --set 'output.formats=["gguf:Q8_0"]'
holds "$scratch/mxint8/report.json" "all(l['scheme'] == 'mxint8 g32' for l in r['linears']) and all(w.startswith('few calibration') for w in r['warnings'])"
"$QUANTIZE" verify "$scratch/mxint8" --reference "$MODEL" >/dev/null || fail "a fresh artefact of MXINT8 isn't verified"
carries "$scratch/mxint8" compressed-tensors mxint8_ct 1e-6
refuses 2 "weights mxint8 g32 can't be stored" "$QUANTIZE" --recipe recipes/rtn.yaml --output "$scratch/x" --device cpu "${mxint8[@]}" \
  --set 'output.formats=[compressed-tensors]'
refuses 2 "mxint8" "$QUANTIZE" --recipe recipes/rtn.yaml --output "$scratch/x" --device cpu --set evaluate=null --set \
  'rules=[{targets: [linear], scheme: {type: mxfp8}, activations: {type: mxint8}, solver: {rtn: {}}}]'
quick recipes/rtn.yaml "$scratch/four" --set evaluate=null --set 'output.formats=[gptq, "gguf:Q4_1"]' --set 'rules=[{targets: [linear], scheme: {bits: 4, group_size: 32}, solver: {rtn: {}}}]'
"$QUANTIZE" eval --model "$scratch/four/gguf-Q4_1" --reference "$scratch/four/gptq" --text data/text/evaluation.txt --rows 1 --ctx 256 --device cpu --json >"$scratch/kl.json"
holds "$scratch/kl.json" "r['kl_mean'] < 1e-3"
holds "$scratch/four/gguf-Q4_1/report.json" "all(l['scheme'] == 'int4 sym g32' for l in r['linears'])"

# The name of a part is not the model's.
quick recipes/gguf.yaml "$scratch/renamed" --model "$scratch/whole_parts/lathe-tiny-F16-00001-of-00002.gguf" --set calibration=null --set evaluate=null --set 'output.formats=["gguf:Q8_0"]' --set output.gguf_shard_size=2MB
[[ -f $scratch/renamed/lathe-tiny-Q8_0-00001-of-00004.gguf ]] || fail "parts of parts: $(ls "$scratch/renamed")"

# inspect reads both kinds of file.
"$QUANTIZE" inspect "$out" --json >"$scratch/inspect.json"
holds "$scratch/inspect.json" "r['supported'] and r['model_type'] == 'llama' and {t['type'] for t in r['types']} == {'F32', 'Q4_K', 'Q6_K'}"
"$QUANTIZE" inspect "$out/imatrix.gguf" | grep -q 'general.type = imatrix' || fail "inspect of an importance matrix"

# What can't be is refused in one line.
refuses 2 "none of the formats is a gguf" "$QUANTIZE" --recipe recipes/awq.yaml --output "$scratch/x" --set "output.imatrix=$out/imatrix.gguf"
refuses 2 "scheme type 'float' leaves weights" "$QUANTIZE" --recipe recipes/gguf.yaml --output "$scratch/x" --set 'output.formats=[awq]'
refuses 2 "solver gptq: scheme type 'float' has no grid" "$QUANTIZE" --recipe recipes/gguf.yaml --output "$scratch/x" --set 'rules=[{scheme: {type: float}, solver: {gptq: {}}}]'
refuses 2 "solver float: it rounds nothing" "$QUANTIZE" --recipe recipes/gguf.yaml --output "$scratch/x" --set 'rules=[{solver: {float: {}}}]'
refuses 2 "expected imatrix, found 'model'" "$QUANTIZE" --recipe recipes/gguf.yaml --output "$scratch/x" --device cpu --quiet --set calibration=null --set evaluate=null --set "output.imatrix=$out/lathe-tiny-Q4_K_M.gguf"

# Blocks that hold a solver's codes lose what its grid loses, which is far more than theirs.
quick recipes/rtn.yaml "$scratch/codes" --set calibration=null --set evaluate=null --set 'output.formats=["gguf:Q8_0"]'
"$QUANTIZE" verify "$scratch/codes" --reference "$MODEL" >/dev/null
