# A run's artefact passes `quantize verify`, with the model and without; one that its recipe's bound rejects is kept beside its place,
# with the reasons; a fault that comes later is named with its tensor. (Every kind of fault: tests/unit/apps/quantize/faults_test.cc.)
. tests/e2e/lib.sh
quick recipes/awq-gptq.yaml "$scratch/good" --set 'output.formats=[compressed-tensors, gptq-v2]'
holds "$scratch/good/gptq-v2/report.json" "r['verification'] == {'passed': True, 'failed': []}"
"$QUANTIZE" verify "$scratch/good" --reference "$MODEL" --json >"$scratch/verdict.json"
holds "$scratch/verdict.json" "len(r) == 2 and all(v['passed'] and v['linears'] == 42 and len(v['distances']) >= 42 for v in r)"
"$QUANTIZE" verify "$scratch/good/gptq-v2" >"$scratch/text"
grep -q "every one held" "$scratch/text" || fail "$(cat "$scratch/text")"

# fails COMMAND...: exit code 3; stdout and stderr are kept.
fails() {
  local status=0
  "$@" >"$scratch/stdout" 2>"$scratch/stderr" || status=$?
  ((status == 3)) || fail "exit code $status, expected 3: $* ($(head -c 400 "$scratch/stderr"))"
}
rejected() { fails quick recipes/rtn.yaml "$scratch/bound" --set calibration=null --set verify.max_kl=0.001 --overwrite; }
rejected
grep -q "check failed: divergence: .*verify.max_kl" "$scratch/stderr" || fail "$(cat "$scratch/stderr")"
grep -q "1 of the artefact's checks failed; it is kept as .*bound.rejected" "$scratch/stderr" || fail "$(cat "$scratch/stderr")"
[[ ! -e $scratch/bound ]] || fail "a rejected artefact in the place of a good one"
holds "$scratch/bound.rejected/report.json" "[f['check'] for f in r['verification']['failed']] == ['divergence']"
rejected # once more: its own leftovers are replaced
[[ ! -e $scratch/bound.rejected-2 ]] || fail "two rejected artefacts"
fails "$QUANTIZE" verify "$scratch/bound.rejected"
grep -q "failed: divergence" "$scratch/stdout" || fail "$(cat "$scratch/stdout")"

"$PYTHON" - "$scratch/good/gptq-v2" <<'PY'
import json, pathlib, struct, sys
file = next(pathlib.Path(sys.argv[1]).glob("*.safetensors"))
data = bytearray(file.read_bytes())
length = struct.unpack("<Q", data[:8])[0]
begin = json.loads(data[8:8 + length])["model.layers.3.mlp.down_proj.qweight"]["data_offsets"][0]
data[8 + length + begin + 100] ^= 4
file.write_bytes(data)
PY
fails "$QUANTIZE" verify "$scratch/good/gptq-v2"
grep -q "failed: manifest: model.layers.3.mlp.down_proj.qweight" "$scratch/stdout" || fail "$(cat "$scratch/stdout")"
refuses 2 "does not exist" "$QUANTIZE" verify "$scratch/nothing"
refuses 2 "floating-point model" "$QUANTIZE" verify "$scratch/good/compressed-tensors" --reference "$scratch/good/gptq-v2"
