# Sourced by every end-to-end test. QUANTIZE: the binary; PYTHON: the environment's python; the working folder is the
# repository's root. Gives a scratch folder that is removed at the end, and a few checks that say what went wrong.
set -euo pipefail
: "${QUANTIZE:?path of the quantize binary}"
PYTHON=${PYTHON:-build/venv/bin/python}
MODEL=data/models/lathe-tiny
scratch=$(mktemp -d "${TMPDIR:-/tmp}/lathe-e2e.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

fail() { echo "FAIL: $*" >&2; exit 1; }
skip() { echo "SKIP: $*"; exit 77; }

# quick RECIPE OUTPUT [flags...]: a shipped recipe with little calibration data and evaluation, on $DEVICE if set, else on
# the CPU.
quick() {
  local recipe=$1 output=$2; shift 2
  "$QUANTIZE" --recipe "$recipe" --output "$output" --device "${DEVICE:-cpu}" --quiet \
    --set calibration.samples=8 --set calibration.seq_len=256 --set evaluate.rows=4 "$@"
}

# For formats, layouts and experts that take no zero points; the shipped recipes have them.
symmetric=(--set 'rules[0].scheme.symmetric=true')

# refuses EXIT_CODE 'text that the message must hold' COMMAND...: one line on stderr, that code, that text.
refuses() {
  local code=$1 text=$2 status=0; shift 2
  "$@" >"$scratch/stdout" 2>"$scratch/stderr" || status=$?
  ((status == code)) || fail "exit code $status, expected $code: $* ($(head -c 400 "$scratch/stderr"))"
  (($(wc -l <"$scratch/stderr") == 1)) || fail "expected one line on stderr from: $* ($(head -c 600 "$scratch/stderr"))"
  grep -qF -- "$text" "$scratch/stderr" || fail "expected '$text' in: $(cat "$scratch/stderr")"
}

# value FILE EXPRESSION: evaluates a Python expression over the JSON file's content, named r.
value() { "$PYTHON" -c 'import json,sys; r=json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"; }
holds() { [[ $(value "$1" "bool($2)") == True ]] || fail "$1: not true: $2"; }

# matches SCHEMA FILE: the JSON file is as the schema says.
matches() {
  "$PYTHON" -c 'import json,sys,jsonschema; jsonschema.Draft202012Validator(json.load(open(sys.argv[1]))).validate(json.load(open(sys.argv[2])))' \
    "$1" "$2" 2>"$scratch/log" || fail "$2 is not as $1 says: $(grep -E "^jsonschema|^On instance" "$scratch/log" | head -3)"
}

# used WHAT PEAK LEAST: a run under the smallest limit that a refusal names takes most of it, MiB: what is planned is what is needed.
used() { ((10 * $2 >= 7 * $3)) || fail "$1: a peak of $2 MiB, and a refusal asks for $3"; }

# copy_model FOLDER: a writable copy of the embedded model.
copy_model() { mkdir -p "$1"; cp "$MODEL"/* "$1"/; chmod -R u+w "$1"; }

# checkpoint FOLDER FAMILY '{"key": value}' [flags...]: a model of random weights, with the embedded model's tokenizer.
checkpoint() {
  local folder=$1 family=$2 config=$3; shift 3
  "$PYTHON" tests/tools/make_checkpoint.py "$folder" --family "$family" --tokenizer "$MODEL" --config "$config" "$@" \
    >"$scratch/log" 2>&1 || fail "no model: $(tail -3 "$scratch/log")"
}
