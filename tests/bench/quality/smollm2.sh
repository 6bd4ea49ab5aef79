#!/usr/bin/env bash
# The quality check: SmolLM2-135M in FP16, by RTN and by AWQ (W4, group 64), scored by transformers.
#
#     tests/bench/quality/smollm2.sh [OUT_DIR]        # default: out/quality/smollm2
#
# Calibrated on 128 rows of 512 tokens of WikiText-2's validation text, scored on 16 rows of 1024 of its test text; the
# texts lie in TEXT_DIR (default ../shared/text). Exit code 77: they are not there. QUANTIZE and PYTHON name other programs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

out=${1:-out/quality/smollm2}
quantize=${QUANTIZE:-build/bin/quantize}
python=${PYTHON:-build/venv/bin/python}
texts=${TEXT_DIR:-../shared/text}
model=build/models/smollm2-135m
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1

calibration=$texts/wikitext2-valid.txt
evaluation=$texts/wikitext2-test.txt
for text in "$calibration" "$evaluation"; do
  if [ ! -f "$text" ]; then
    echo "skipped: $text is not there (set TEXT_DIR)"
    exit 77
  fi
done
if [ ! -x "$quantize" ]; then
  echo "smollm2.sh: $quantize is not there; build it first, or set QUANTIZE" >&2
  exit 2
fi
[ -f "$model/model.safetensors" ] || "$python" tests/tools/make_smollm2.py "$model"

for recipe in rtn awq; do
  "$quantize" --recipe "recipes/$recipe.yaml" --model "$model" --calib "$calibration" --output "$out/$recipe" --overwrite \
    --threads "$OMP_NUM_THREADS" \
    --set 'rules[0].scheme.group_size=64' --set calibration.samples=128 --set calibration.seq_len=512 \
    --set "evaluate.text=$evaluation" --set evaluate.ctx=1024 --set evaluate.rows=16
done
"$python" tests/bench/quality/score.py "$model" "$out/rtn" "$out/awq" --text "$evaluation" --rows 16 --ctx 1024 \
  --json "$out/scores.json"
